"""Corrections of models, and their evaluation on test images.

May import `api.classify`, `api.jobs`, the modules below them and `core`, but no other resource.
"""
