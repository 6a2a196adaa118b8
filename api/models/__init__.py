"""/models: list, export, import, extend. Imports `jobs` and below."""
