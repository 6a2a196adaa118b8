"""Resource `/models`: list, rename, delete, export, import and extend models.

May import `api.corrections`, the modules below it and `core`, but no other resource.
"""
