"""The commands of `clipcite` that talk to a service."""
