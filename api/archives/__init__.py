"""Reading of uploaded zip archives within safety limits. May import `core`, but nothing else of `api`."""
