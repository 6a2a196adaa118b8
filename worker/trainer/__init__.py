"""The trainer process and its supervisor in the worker."""
