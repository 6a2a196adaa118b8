"""The synchronous client, with the methods of the asynchronous one.

May import `clipcite.client` and `clipcite.datasets`.
"""
