"""The vocabulary of the project: requests and responses, and the types that several parts share.

May import pydantic, but nothing else of the project.
"""
