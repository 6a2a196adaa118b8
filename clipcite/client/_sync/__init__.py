"""The synchronous client, generated from the asynchronous one by `python -m tests.repository.unasync`."""
