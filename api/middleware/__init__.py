"""ASGI middleware: authentication, body limits and request ids."""
