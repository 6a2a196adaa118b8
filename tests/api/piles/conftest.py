"""Piles are tested on both database systems, because locks, isolation and texts differ."""

import pytest

from tests.api.piles.requests import PHOTOS, add, new_pile
from tests.api.service import Service
from tests.core.store.databases.conftest import database_url

__all__ = ["database_url"]


@pytest.fixture
def pile(fresh: Service) -> str:
    pile_id = new_pile(fresh, name="club photos")
    add(fresh, pile_id, PHOTOS)
    return pile_id
