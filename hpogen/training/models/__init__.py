"""The built-in models, one file per family; each builder is `(in_shape, classes, **options)`."""

SMALLEST = {"lenet5": 12}
"""The smallest image side in pixels, for the models that have one (no torch needed to know)."""
