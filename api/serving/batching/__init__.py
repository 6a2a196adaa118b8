"""Cross-request batching: one forward pass for the images of several requests.

Does not import the other folders of `api.serving`. Only the engine imports it.
"""
