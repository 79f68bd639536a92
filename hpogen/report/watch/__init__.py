"""The live page of `hpogen watch`: a study or a matrix, followed in a browser on this machine.

`server.py` sends the page of `assets/` and what `view.py` makes of the `followed.py` folder.
"""
