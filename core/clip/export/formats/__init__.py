"""Exports for other programs. A module with `write(folder, export)` has the name of its `format`.

`write` writes the files of the format, and returns the instructions for loading them. `classes.export_format`
imports it by this name, so it can be deleted alone. `classes` and `tokenizer` serve these modules.
"""
