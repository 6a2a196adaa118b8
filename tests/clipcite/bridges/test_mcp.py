"""`clipcite mcp`: which files its tools open."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mcp
import pytest

from clipcite import Client, Dataset
from clipcite.bridges.mcp import make_server
from clipcite.sorting.log import open_log

SECRET = "ssh-rsa AAAA-secret"


class Service:
    """The client of a service that takes what it gets."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.models = SimpleNamespace(get=lambda model: SimpleNamespace(id="mdl_1", trained_classes=["red"]))

    def preflight(self, dataset: Dataset) -> Any:
        self.sent += [f"{item.class_name} {item.image.read().decode()}" for item in dataset.images]
        return SimpleNamespace(raw=dict.fromkeys(("acceptable", "images", "good", "findings", "warnings")))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of images below the root, which has a file outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    (tmp_path / "outside" / "metadata.csv").write_text(f"file_name,label\n{SECRET},red\n")
    folder = tmp_path / "root" / "images"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_text("first")
    return folder


def call(service: Service, images: Path, tool: str, **given: Any) -> tuple[bool, str]:
    async def answer() -> Any:
        async with mcp.Client(make_server(cast(Client, service), images.parent)) as client:
            return await client.call_tool(tool, given)

    found = asyncio.run(answer())
    return bool(found.is_error), found.content[0].text


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("metadata.csv", "secret"),
        ("metadata.jsonl", "secret"),
        ("labels.tsv", "secret"),
        ("export.json", "secret"),
        ("train/metadata.csv", "secret"),
        ("test", ""),
        ("red/b.jpg", "secret"),
        ("red", ""),
    ],
)
def test_no_link_leads_out_of_the_root(folder: Path, service: Service, link: str, target: str) -> None:
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(folder.parents[1] / "outside" / target)
    failed, text = call(service, folder, "check_images", folder="images")
    assert failed
    assert f"{link} is outside {folder.parent}" in text
    assert SECRET not in text
    assert service.sent == []


def test_names_in_a_manifest(folder: Path, service: Service) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n../../outside/secret,red\na.jpg,red\n")
    failed, text = call(service, folder, "check_images", folder="images")
    assert failed
    assert "outside/secret is outside" in text
    assert service.sent == []


def test_links_inside_the_root(folder: Path, service: Service) -> None:
    """Also to the folder itself, and hidden files are not opened."""
    (folder.parent / "labels").write_text("file_name,label\na.jpg,red\n")
    (folder / "metadata.csv").symlink_to(folder.parent / "labels")
    (folder / "again").symlink_to(folder)
    (folder / ".venv").symlink_to("/usr")
    failed, text = call(service, folder, "check_images", folder="images")
    assert not failed, text
    assert service.sent == ["red first"]


def test_a_log_of_another_sort(folder: Path, service: Service) -> None:
    """It would be read, and continued."""
    into = folder.parent / "images-sorted"
    subject = {"folder": str(folder), "pile": "pil_1"}
    log, _ = open_log(folder.parents[1] / "outside", subject)
    before = log.path.read_text()
    into.mkdir()
    (into / log.path.name).symlink_to(log.path)
    failed, text = call(service, folder, "sort_folder", folder="images", model="shoes")
    assert failed
    assert f"{log.path.name} is outside" in text
    assert log.path.read_text() == before
