"""`clipcite piles`, and a training from a pile."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipcite import Client, Pile
from tests.clipcite.painted import paint
from tests.service.running import Service


@pytest.fixture
def pile(service: Service, tmp_path: Path) -> Iterator[Pile]:
    """Yield a pile of red and green images with labels, one of each drawn at random."""
    for name in ("red", "green"):
        paint(tmp_path, f"photos/{name}", 5)
    with Client(service.url) as client:
        pile = client.piles.create(tmp_path / "photos", name="club\x1b[31m")
        for name in ("red", "green"):
            at = [image.position for image in pile.images() if image.file.startswith(name)]
            pile.answer(at[:2], name, how="group")
            pile.answer(at[4], name, how="drawn")
        yield pile
        for each in list(client.piles.list(pile.name)):
            each.delete()


def test_a_pile_is_listed_shown_and_deleted(call: Any, service: Service, pile: Pile) -> None:
    end = pile.id[-6:]
    line = rf"club\?\[31m +10 +6 +\S+ MB +{pile.used_at:%Y-%m-%d %H:%M} +{end}"
    assert re.search(line, call("piles", "list").stdout)
    assert json.loads(call("piles", "list", "--name", pile.name, "--json").stdout)[0]["id"] == pile.id
    shown = call("piles", "show", end).stdout
    assert re.search(r"^labelled +6, 2 of them drawn at random", shown, re.M)
    assert "Not measured yet." in shown
    assert json.loads(call("piles", "show", pile.name, "--json").stdout)["id"] == pile.id
    assert "No pile has the name 'nosuch'" in call("piles", "show", "nosuch", status=2).stderr
    assert pile.id in call("piles", "delete", pile.id, "--yes").stdout
    assert pile.id in call("piles", "show", pile.id, status=5).stderr


def test_a_training_from_a_pile(call: Any, service: Service, pile: Pile) -> None:
    checked = json.loads(call("adapt", "--pile", pile.id[-6:], "--dry-run", "--json").stdout)
    assert [(each["name"], each["images"], each["test_images"]) for each in checked["classes"]] == [
        *(("green", 2, 1), ("red", 2, 1))
    ]
    job = json.loads(call("adapt", "--pile", pile.id, "--epochs", 1, "--wait", "--json").stdout)
    assert job["status"] == "succeeded"
    more = call("adapt", "--pile", pile.id, "--extends", job["model_id"], "--epochs", 1).stdout.strip()
    with Client(service.url) as client:
        assert {(each.name, each.images) for each in client.jobs.get(more).classes} == {
            ("red", 2),
            ("green", 2),
        }
        client.jobs.cancel(more)
    assert "IMAGES: are needed, or --pile." in call("adapt", status=2).stderr
