"""Blobs in a folder or a bucket, and their deletion. Imports `db` and below."""
