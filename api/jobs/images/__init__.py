"""Resource `/jobs/{id}/images`: the images of a job, as a list and as thumbnails.

May import `api.deps`, the modules below it and `core`.
"""
