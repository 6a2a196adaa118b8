"""Benchmarks behind the figures of the documentation. Each prints a table and writes JSON."""
