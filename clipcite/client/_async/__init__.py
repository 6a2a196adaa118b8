"""The asynchronous client. Imports its neighbours of `clipcite.client`."""
