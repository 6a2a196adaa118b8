"""Piles through the Python client, on the running service."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipcite import Client, ConflictError, InvalidImages, Job, NotFoundError
from clipcite.client.piles import pile_files
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.client.scripted import response, scripted_server
from tests.clipcite.painted import paint
from tests.service.running import Service

pytestmark = pytest.mark.usefixtures("no_piles")
both = pytest.mark.parametrize("connect", [Client, awaited_client])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with 12 images of three colours, one of them twice, and a file that is no image."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"photos/{name}", 4)
    (tmp_path / "photos/red/copy.png").write_bytes((tmp_path / "photos/red/0.png").read_bytes())
    (tmp_path / "photos/broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


@both
def test_a_pile_from_its_images_to_its_end(
    connect: Callable[..., Any], service: Service, taught: Job, photos: Path
) -> None:
    seen: list[tuple[int, int]] = []
    with connect(service.url) as client:
        pile = client.piles.create(
            photos, name="club", model=taught.model_id, on_progress=lambda *now: seen.append(now)
        )
        assert (pile.name, pile.model, pile.counts.images) == ("club", taught.model_id, 12)
        assert seen == [(0, 14), (14, 14)]
        images = {image.file: image for image in pile.images()}
        assert [image.position for image in images.values()] == [*range(12)]
        red = photos / "red/1.png"
        assert images["red/1.png"].sha256 == hashlib.sha256(red.read_bytes()).hexdigest()

        added = {image.file: image for image in pile.add(photos)}  # the broken one is sent again
        assert not any(image.is_new for image in added.values())
        assert added["red/copy.png"].position == added["red/0.png"].position
        assert (added["broken.jpg"].position, added["broken.jpg"].error.code) == (None, "not_an_image")
        assert client.piles.get(pile.id).counts.images == 12

        matched = {each.id: positions for each, positions in client.piles.match([red, photos / "broken.jpg"])}
        assert list(matched[pile.id]) == [images["red/1.png"].position, None]
        assert pile.id in [each.id for each in client.piles.list(name="club")]

        blue = [image.position for file, image in images.items() if file.startswith("blue")]
        pile.answer(blue[:2], "blue", how="moved")
        pile.answer(blue[2])
        pile.answer(blue[3], said="skip", how="drawn")
        assert (pile.counts.labelled, pile.counts.none, pile.class_names) == (3, 1, ["blue"])
        result = pile.sort(ask=5, groups=3)
        places = [(place.class_name, place.something_else) for place in result.images]
        assert [places[position] for position in blue[:3]] == [("blue", False)] * 2 + [(None, True)]
        assert places[images["red/1.png"].position] == ("red", False)
        assert len(result.ask) == 5
        assert {each.position for each in result.ask if not each.drawn}.isdisjoint(blue[:3])
        rows = {row["file"]: row["class"] for row in csv.DictReader(pile.csv().splitlines())}
        assert rows["blue/0.png"] == "blue"
        assert len(rows) == 12
        pile.answer(blue, said="withdrawn")
        assert pile.counts.labelled == 0
        pile.rename("sports club")
        pile.update(class_names={"red": ["a red thing"], "green": None})
        assert pile.refresh().class_names == ["red", "green"]
        assert client.piles.get(pile.id).name == "sports club"
        pile.delete()
        with pytest.raises(NotFoundError):
            pile.refresh()


@both
def test_another_model_sorts_after_a_wait(
    connect: Callable[..., Any], service: Service, taught: Job, photos: Path
) -> None:
    """From the reduced copies. A pile that keeps features alone needs the images again."""
    seen: list[tuple[int, int]] = []
    with connect(service.url) as client:
        kept = client.piles.create(photos, class_names=["red", "green"])
        assert kept.sort().model == "stock"
        result = kept.sort(model=taught.model_id, on_progress=lambda *now: seen.append(now))
        assert (result.model, len(result.images)) == (taught.model_id, 12)
        assert seen[0] == (0, 12)

        bare = client.piles.create(photos, class_names=["red", "green"], keeps_images=False)
        before = [place.class_name for place in bare.sort().images]
        assert before == [place.class_name for place in kept.sort().images]
        bare.update(model=taught.model_id)
        with pytest.raises(ConflictError) as refused:
            bare.sort()
        assert refused.value.code == "images_not_kept"
        assert not any(image.is_new for image in bare.add(photos, again=True))
        assert [place.class_name for place in bare.sort().images] == [p.class_name for p in result.images]


@both
def test_a_training_from_the_labels_of_a_pile(
    connect: Callable[..., Any], service: Service, photos: Path
) -> None:
    """Images drawn at random are test images, unless they shall be trained on."""
    with connect(service.url) as client:
        pile = client.piles.create(photos)
        for name in ("red", "green"):
            positions = [image.position for image in pile.images() if image.file.startswith(name)]
            pile.answer(positions[:3], name, how="group")
            pile.answer(positions[3], name, how="drawn")
        checked = client.preflight(pile=pile)
        assert [(each.name, each.images, each.test_images) for each in checked.classes] == [
            *(("green", 3, 1), ("red", 3, 1))
        ]
        job = client.adapt(pile=pile, name="club", config={"epochs": 1}).wait(timeout=600)
        assert sorted((each.name, each.images) for each in job.classes) == [("green", 3), ("red", 3)]
        model = client.models.get(job.model_id)
        more = model.extend(pile=pile.id, pile_drawn="train", config={"epochs": 1})
        assert sorted((each.name, each.images) for each in more.classes) == [("green", 4), ("red", 4)]
        client.jobs.cancel(more.id)


@both
def test_an_upload_in_parts_that_breaks_off_goes_on(connect: Callable[..., Any], tmp_path: Path) -> None:
    """The first part is there. The client sends the rest alone."""
    paths = paint(tmp_path, "red", 40)
    pile = {"id": "pil_1", "name": "red", "model": "stock", "class_names": [], "keeps_images": True}
    pile |= {"counts": dict.fromkeys(("images", "labelled", "none", "drawn"), 0), "bytes": 0, "revision": 1}
    pile |= dict.fromkeys(("created_at", "used_at"), "2026-12-01T00:00:00Z")
    positions = [*range(32), *[None] * 8]
    match = response(json.dumps({"data": [{"pile": pile, "positions": positions}]}))
    images = [{"file": path.name, "position": n, "is_new": True} for n, path in enumerate(paths[32:], 32)]
    added = response(json.dumps({"images": images, "pile": pile}), status=201)
    with scripted_server(response(json.dumps(pile)), match, added) as server, connect(server.url) as client:
        found = client.piles.get("pil_1").add(paths)
        assert server.seen[1:] == ["POST /piles/match", "POST /piles/pil_1/images"]
    assert [image.position for image in found] == [*range(40)]
    assert [image.is_new for image in found] == [False] * 32 + [True] * 8


def test_names_of_images(tmp_path: Path) -> None:
    """Paths in a list begin below their common folder. Nothing of the folders above is sent."""
    one, other = paint(tmp_path, "a/b", 1)[0], paint(tmp_path, "a/c", 1)[0]
    assert [file.name for file in pile_files([one, other, b"x"])] == ["b/0.png", "c/0.png", "image-3"]
    assert [file.name for file in pile_files(one)] == ["0.png"]
    assert [file.name for file in pile_files(tmp_path / "a")] == ["b/0.png", "c/0.png"]
    assert [file.name for file in pile_files({'x/"1".png': one})] == ["x/_1_.png"]
    with pytest.raises(InvalidImages, match="A pile has 1 to 20,000 images"):
        pile_files([])
    with pytest.raises(InvalidImages, match="does not exist"):
        pile_files([tmp_path / "gone.png"])
