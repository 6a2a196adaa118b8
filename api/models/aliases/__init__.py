"""Resource `/models/{name}/aliases`: pointers to versions of a model, with their history.

May import `api.deps`, the modules below it and `core`.
"""
