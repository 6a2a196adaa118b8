"""Reliability of the reports, measured on large test sets."""
