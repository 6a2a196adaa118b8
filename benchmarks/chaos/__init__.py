"""Faults on purpose: the real service, killed, frozen and cut off from its servers while it works."""
