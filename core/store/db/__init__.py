"""Tables, sessions, migrations and what every query needs. Imports `core.store.errors` only."""
