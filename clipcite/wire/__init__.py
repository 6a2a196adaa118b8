"""Requests and responses of the service, each declared once: the API and the client import them.

May import pydantic, nothing else of the project.
"""
