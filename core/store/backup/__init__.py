"""Backup, restore and verification of an installation. May import the other packages of `core.store`."""
