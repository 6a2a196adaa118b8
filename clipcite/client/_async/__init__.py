"""The asynchronous client, from which the synchronous one is generated.

May import `clipcite.client` and `clipcite.datasets`.
"""
