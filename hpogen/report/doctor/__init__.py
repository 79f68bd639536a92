"""What `hpogen doctor` looks at, a file for each group; `page.py` puts it together."""
