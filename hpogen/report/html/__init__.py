"""`hpogen report`: one HTML file that says what studies found, with every picture in it.

`page.py` puts it together; each other module makes the sections of one kind of question.
"""
