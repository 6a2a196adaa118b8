"""ASGI middleware: authentication, body limits and request ids.

May import `api.http.problems` and `core`, no resource of `api`.
"""
