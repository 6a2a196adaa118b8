"""`POST /classify`: ranking of class names for images."""
