"""Sample images for a first training.

May import `api.deps`, the modules below it and `core`, no other resource.
"""
