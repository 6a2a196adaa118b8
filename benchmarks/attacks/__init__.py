"""Hostile requests against a fresh service: memory, CPU time, and the latency of another client."""
