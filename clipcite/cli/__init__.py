"""The command `clipcite`.

May import `clipcite.client` and `clipcite.datasets`, and starts the server's modules by name.
"""
