"""The command `clipcite`."""
