"""Persistence of jobs, models, owners and blobs, in a database and a blob storage."""
