"""The command `clipcite`. Imports nothing of the server."""
