"""Blobs in a folder or a bucket, and their deletion."""
