"""`make demo`: train and evaluate a model on a few images, on this machine.

May import `clipcite` and `core`; nothing of the product imports it.
"""
