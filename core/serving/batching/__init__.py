"""Images of several requests in one forward pass.

Imports no other folder of `core.serving`; only the engine imports it.
"""
