"""Images of several requests in one forward pass.

Imports no other folder of `core.serving`; only `core.serving` imports it.
"""
