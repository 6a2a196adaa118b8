"""Blobs in a folder or a bucket, and their deletion. May import `db` and the layers below it."""
