"""ASGI middleware: authentication, rate limits, body limits and request ids.

May import `api.http.problems` and `core`, no resource of `api`.
"""
