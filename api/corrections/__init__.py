"""Corrections of models, and their evaluation on test images.

May import `api.jobs`, the parts below it and `core`, no other resource.
"""
