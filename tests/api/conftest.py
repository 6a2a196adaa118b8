"""Applications on fresh storage. Those that only refuse are shared by a module: nothing is stored."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone
from tests.api.service import Service, service

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def new_service(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, backbone: Backbone
) -> Callable[..., AbstractContextManager[Service]]:
    """Makes an application on fresh storage, with any settings; by default on the tiny network."""

    def make(**given: object) -> AbstractContextManager[Service]:
        data = tmp_path_factory.mktemp("data")
        shutil.copy(migrated, data / "clipcite.db")
        return service(data, str(given.pop("backbone", backbone.name)), **given)

    return make


@pytest.fixture
def make_service(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[MakeService]:
    with ExitStack() as stack:
        yield lambda **given: stack.enter_context(new_service(**given))


@pytest.fixture
def fresh(make_service: MakeService) -> Service:
    return make_service()


@pytest.fixture
def either(make_service: MakeService, database_url: str) -> Service:
    """On SQLite, and once more on PostgreSQL."""
    return make_service(database_url=database_url)
