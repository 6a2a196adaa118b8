"""The command `clipcite`.

May import `clipcite.client` and `clipcite.datasets`, and starts server modules by name.
"""
