"""What finished trials tell: read from study folders and tables, computed without torch."""
