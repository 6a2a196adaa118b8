"""`make demo`: train a model on sample images on this machine, and show the change.

May import `clipcite` and `core`; nothing of the product imports it.
"""
