"""Requests and responses of the service. The API and the client import the same models.

May import pydantic, but nothing else of the project.
"""
