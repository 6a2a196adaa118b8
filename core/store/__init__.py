"""Persistence of jobs, models, owners and blobs, in a database and a blob storage.

May import the modules of `core` and `clipcite.types`, but not `core.clip` or torch.
"""
