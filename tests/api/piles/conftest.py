"""Piles are tested on both database systems, because locks, isolation and texts differ."""

from tests.core.store.databases.conftest import database_url

__all__ = ["database_url"]
