"""The web page: its routes and its files, without a build. Imports nothing else of `api`."""
