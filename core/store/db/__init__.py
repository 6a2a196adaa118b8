"""Tables, sessions, engines, migrations and pagination."""
