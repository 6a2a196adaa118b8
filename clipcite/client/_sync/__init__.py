"""The synchronous client, generated from the asynchronous one by `python -m tests.repository.unasync`.

May import `clipcite.client` and `clipcite.datasets`.
"""
