"""Cross-request batching: one forward pass for the images of several requests.

Imports no other folder of `core.serving`; only the engine imports it.
"""
