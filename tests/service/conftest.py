"""One running service for the tests that don't stop it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clip.tiny import make_tiny_backbone
from tests.service.running import Service, serve


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny random network, so that a training takes as long as its epochs say, and short times."""
    folder = tmp_path_factory.mktemp("backbone")
    return {
        "CLIPCITE_BACKBONE": make_tiny_backbone(folder / "tiny"),
        "CLIPCITE_BACKBONE_FOLDER": str(folder),
        "CLIPCITE_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": "1",  # more only spin on work this small
        "CLIPCITE_LEASE_SECONDS": "3",
        "CLIPCITE_HEARTBEAT_SECONDS": "0.3",
        "CLIPCITE_DISPATCH_SECONDS": "0.2",
        "CLIPCITE_REDISPATCH_SECONDS": "3",
    }


@pytest.fixture(scope="module")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data: Path = tmp_path_factory.mktemp("data")
    with serve(data, environment) as service:
        yield service
