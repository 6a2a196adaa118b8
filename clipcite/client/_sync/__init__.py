"""The synchronous client. Imports its neighbours of `clipcite.client`."""
