"""Models, their versions, names and aliases. May import `accounts` and the layers below it."""
