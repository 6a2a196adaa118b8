"""`make demo`: from a few images to a measured model on this machine.

May import `clipcite` and `core`; nothing of the product imports it.
"""
