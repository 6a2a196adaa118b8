"""Compared methods: one file each, with its paper and default settings."""
