"""Fault injection: the real service, killed, frozen and disconnected from its servers while it works."""
