"""What the YAML says of image classification, checked without torch."""
