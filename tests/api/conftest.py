"""Applications on fresh storage. Tests that only provoke refusals share one per module: it stores nothing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone
from tests.api.service import Service, service
from tests.conftest import TABLES

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def new_service(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, backbone: Backbone
) -> Callable[..., AbstractContextManager[Service]]:
    """Return a factory of applications on fresh storage, with the tiny network unless other settings are
    passed.
    """

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


@pytest.fixture(scope="module")
def unchanged(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """Yield an application that the tests of a module share. They store nothing in it."""
    with new_service() as made:
        before = everything(made)
        yield made
        assert everything(made) == before


def everything(service: Service) -> list[str]:
    """List all rows, blobs and temporary files."""
    with service.database.read() as session:
        rows = [f"{table.name} {row}" for table in TABLES for row in session.execute(table.select())]
    return sorted([*service.stored(), *rows])


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, new_service: Callable[..., AbstractContextManager[Service]]
) -> Iterator[Service]:
    """Yield an application with the settings SETTINGS of a module, which its tests share."""
    with new_service(**getattr(request.module, "SETTINGS", {})) as made:
        yield made


@pytest.fixture
def either(make_service: MakeService, database_url: str) -> Service:
    """Run the test on SQLite and on PostgreSQL."""
    return make_service(database_url=database_url)
