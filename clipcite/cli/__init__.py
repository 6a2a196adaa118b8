"""The command `clipcite`.

May import `clipcite.client` and `clipcite.datasets`. Server modules are started by name.
"""
