"""Exports for other programs: one module each, named like its `format`, which can be deleted alone.

A module has `write(folder, export)`. `core.serving.exports` finds it by its name.
"""
