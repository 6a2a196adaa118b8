"""Exports for other programs. Each module has the name of its `format`, and can be deleted alone.

A module has `write(folder, export)`. `api.models.exports` finds the module by its name.
"""
