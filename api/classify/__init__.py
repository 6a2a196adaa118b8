"""`POST /classify`: ranking of class names for images.

May import `api.deps`, the modules below it and `core`, but no other resource.
"""
