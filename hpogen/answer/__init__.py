"""What a study was for: the networks that it kept, to be used outside of it."""
