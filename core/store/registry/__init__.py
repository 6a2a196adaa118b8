"""Models, their versions, names and aliases. Imports `accounts` and below."""
