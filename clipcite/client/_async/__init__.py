"""The asynchronous client. The synchronous one is generated from it.

May import `clipcite.client` and `clipcite.datasets`.
"""
