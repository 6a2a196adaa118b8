"""Reading of uploaded zip archives within safety limits. May import `core`, no other part of `api`."""
