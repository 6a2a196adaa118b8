"""ASGI middleware that every request passes before its route.

May import `api.problems` and `core`, no resource of `api`.
"""
