"""Reading of uploaded zip archives within limits. May import `core`, no other part of `api`."""
