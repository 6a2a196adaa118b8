"""Corrections of models, and their evaluation on test images.

May import `api.jobs`, the modules below it and `core`, but no other resource.
"""
