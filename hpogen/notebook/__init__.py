"""hpogen from Python alone, in a program or a notebook."""
