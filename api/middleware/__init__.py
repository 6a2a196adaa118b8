"""ASGI middleware: authentication, body limits and request ids.

May import `api.http.problems` and `core`, but no resource of `api`.
"""
