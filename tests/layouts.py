"""Folder layouts: a table with the split and class of each file, and random ones."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "Train", "training", "test", "TEST", "testing", "val", "valid", "Validation", "dev", "DEV")
CLASSES = (
    *("cat", "dog", "red fox", "bus", "x", "0", "images", "Photos", "data", "figures", " owl ", "Straße"),
    *(
        "<img src=x onerror=alert(1)>",
        'a&amp;b "q"',
        "ÄPFEL",
        "e\u0301clair",
        "日本",
        "🦊",
        "it's",
        "100%",
        "a, b",
        "a;b",
    ),
    *("Cat", "DOG", "äpfel", "STRASSE"),
)
WRAPPERS = ("data", "x", "images", "Imgs", "photo", "download (1)", "cat")
HIDDEN = (".trash", "__MACOSX")
FILES = ("a.jpg", "b.JPG", "c.png", "d.heic", "<i>e.webp", "f 1.jpeg", "é.tiff")
OTHERS = (".DS_Store", "._a.jpg", "notes.txt", "Thumbs.db", "README")


@dataclass(frozen=True)
class Layout:
    name: str
    files: list[str]
    expected: dict[str, str] | None
    """`split:class` of each file that counts; None if the layout is refused."""

    def __str__(self) -> str:
        return self.name


def layouts() -> list[Layout]:
    found = []
    for row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        placed = {file: place for file, place in row["files"].items() if place is not None}
        found.append(Layout(row["name"], list(row["files"]), None if row.get("refused") else placed))
    return found


def random_layouts(number: int, seed: int) -> Iterator[list[str]]:
    """Yield lists of files: half with an order of splits and classes, and faults, half without any order."""
    chance = random.Random(seed)
    for _ in range(number):
        files = _ordered(chance) if chance.random() < 0.5 else _unordered(chance)
        yield sorted(dict.fromkeys(files))


def _unordered(chance: random.Random) -> Iterator[str]:
    pool = [*chance.sample(CLASSES, 2), *chance.sample(SPLITS, 2), chance.choice(WRAPPERS), *HIDDEN[:1]]
    for _ in range(chance.randint(1, 8)):
        folders = chance.choices(pool, weights=(6, 6, 4, 4, 4, 1), k=chance.choice((0, 1, 1, 2, 2, 2, 3, 4)))
        yield "/".join([*folders, chance.choice(FILES + OTHERS[:2])])


def _ordered(chance: random.Random) -> Iterator[str]:
    around = chance.choices(WRAPPERS, k=chance.choice((0, 0, 0, 1, 1, 2)))
    splits = chance.sample(SPLITS, chance.randint(1, 3))
    wrapper = chance.choice(WRAPPERS)
    order = chance.choice(
        ("class", "split/class", "class/split", "split/wrapper/class", "split", "class/deep")
    )
    for name in chance.sample(CLASSES, chance.randint(1, 4)):
        for split in splits:
            parts = {
                "class": name,
                "split": split,
                "wrapper": wrapper,
                "deep": chance.choice(("2019", "2020")),
            }
            for file in chance.sample(FILES, chance.randint(0, 2)):
                yield "/".join([*around, *(parts[part] for part in order.split("/")), file])
    for _ in range(chance.choice((0, 0, 1, 2))):
        beside = chance.choice((*CLASSES, *SPLITS, *HIDDEN, ""))
        places = [around, [*around, beside], [*around, splits[0]], [*around, splits[0], beside]]
        yield "/".join([*filter(None, chance.choice(places)), chance.choice(FILES + OTHERS)])
