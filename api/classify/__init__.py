"""`POST /classify`: images and class names in, ranked class names out.

May import `api.deps`, the modules below it and `core`, no other resource.
"""
