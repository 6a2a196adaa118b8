"""Writing of models in formats of other programs, and their import.

May import every module of `core.clip` except `pipeline`.
"""
