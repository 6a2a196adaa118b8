"""Models, their versions and names. May import `accounts` and the layers below it."""
