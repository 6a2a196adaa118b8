"""Persistence of jobs, models, owners and blobs, in a database and a blob storage.

May import the modules of `core`, but not `core.clip` or torch.
"""
