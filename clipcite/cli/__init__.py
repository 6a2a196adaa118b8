"""The command `clipcite`. Imports `clipcite.client` and starts the server's modules by name."""
