"""Checks of an upload before any training, without torch. Imports `config` and below."""
