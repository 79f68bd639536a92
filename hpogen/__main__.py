"""`python -m hpogen`: the command line."""

from hpogen.cli import main

main()
