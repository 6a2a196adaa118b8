"""Exports for other programs. Each module has the name of its `format`, and can be deleted alone.

A module has `write(folder, export)`. `core.serving.exports` finds the module by its name.
"""
