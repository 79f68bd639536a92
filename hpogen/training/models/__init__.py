"""The built-in models, one file per family; each builder is `(in_shape, classes, **options)`.

`catalog.py` says without torch which there are.
"""
