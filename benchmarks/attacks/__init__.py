"""Hostile requests against a fresh service: memory, CPU time, and the wait of another client."""
