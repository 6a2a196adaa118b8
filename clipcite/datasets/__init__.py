"""Labelled images from folders, tables and annotation tools. Imports no other part of `clipcite`."""
