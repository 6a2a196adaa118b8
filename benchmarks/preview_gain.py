"""Trained models against the instant preview, with the trained names and with one new name beside them.

    clipcite serve --data /tmp/gain --port 8765
    CLIPCITE_DATA=/tmp/gain python -m benchmarks.preview_gain --data clothing cifar10 --out preview_gain.json

Everything goes over HTTP. Of each set, every seed draws five trained classes and a new one, and six training
images per trained class. Of the sample *parts*, it draws other images of the four trained classes and the new
one. The preview and the model are asked for the same test images.
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders, images_in
from clipcite import Client
from core.samples import parts, sample

TRAINED, SHOTS, TESTS = 5, 6, 40
KINDS = ("preview", "trained")
Drawn = tuple[dict[str, list[Path]], dict[str, list[Path]]]


def drawn(folder: Path, seed: int) -> Drawn:
    """Return the training images by trained class, and the test images by class. The last class is new."""
    generator = random.Random(seed)
    names = generator.sample(class_folders(folder / "test"), TRAINED + 1)
    shots = {name: generator.sample(images_in(folder / "train" / name), SHOTS) for name in names[:TRAINED]}
    tests = {}
    for name in names:
        images = images_in(folder / "test" / name)
        tests[name] = generator.sample(images, min(TESTS, len(images)))
    return shots, tests


def drawn_parts(folder: Path, seed: int) -> Drawn:
    """Draw other images of the sample's classes for each seed, in the form of `drawn`."""
    shots: dict[str, list[Path]] = {}
    tests: dict[str, list[Path]] = {}
    for name in (*sample.TRAINED, *sample.NEW):
        images = []
        for number in range(seed * (SHOTS + TESTS), (seed + 1) * (SHOTS + TESTS)):
            images.append(folder / f"{name} {number}.jpg")
            images[-1].write_bytes(parts.load(name, number))
        tests[name] = images[SHOTS:]
        if name in sample.TRAINED:
            shots[name] = images[:SHOTS]
    return shots, tests


def measure(client: Client, shots: dict[str, list[Path]], tests: dict[str, list[Path]]) -> dict[str, Any]:
    """Return right answers per test image, of the preview and of the model, by request."""
    paths = [(path, name) for name, images in tests.items() for path in images]
    row: dict[str, Any] = {}

    def ask(kind: str, model: str) -> None:
        for request, names in (("closed", list(shots)), ("one new", list(tests))):
            asked = [(path, name) for path, name in paths if name in names]
            answer = client.classify([path for path, _ in asked], names, model=model, top_k=1)
            assert answer.preview == (kind == "preview"), "the job ended before the preview was asked"
            row[f"{kind} {request}"] = [
                each.class_name == name for each, (_, name) in zip(answer, asked, strict=True)
            ]

    job = client.adapt(shots)
    ask("preview", job.id)
    ask("trained", job.wait().model_id)
    row["old"] = sum(name in shots for _, name in paths)
    return row


def figures(row: dict[str, Any]) -> dict[str, float]:
    """Return accuracies, and how many right answers a new name turned wrong or was found."""
    result = {}
    for kind in KINDS:
        closed, open_, old = row[f"{kind} closed"], row[f"{kind} one new"], row["old"]
        result[f"{kind} closed"] = statistics.mean(closed)
        result[f"{kind} one new"] = statistics.mean(open_)
        result[f"{kind} found"] = sum(open_[old:])
        result[f"{kind} lost"] = sum(a and not b for a, b in zip(closed, open_[:old], strict=True))
    return result


def jobs(folders: Sequence[Path], seeds: int) -> Iterator[tuple[str, int, Drawn]]:
    with TemporaryDirectory() as name:
        for seed in range(seeds):
            yield "parts", seed, drawn_parts(Path(name), seed)
            for folder in folders:
                yield folder.name, seed, drawn(folder, seed)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    with Client() as client:
        for name, seed, (shots, tests) in jobs(options.data, options.seeds):
            if not any((row["set"], row["seed"]) == (name, seed) for row in rows):
                rows.append({"set": name, "seed": seed, **measure(client, shots, tests)})
                options.out.write_text(json.dumps(rows))
    table = Table("Trained against preview", ["set", "seeds", *(c for c in figures(rows[0])), "better"])
    for name in dict.fromkeys(row["set"] for row in rows):
        found = [figures(row) for row in rows if row["set"] == name]
        means = {key: statistics.mean(each[key] for each in found) for key in found[0]}
        cells = [figure(v) if "closed" in k or "one new" in k else f"{v:.1f}" for k, v in means.items()]
        better = sum(each["trained closed"] > each["preview closed"] for each in found)
        better_open = sum(each["trained one new"] > each["preview one new"] for each in found)
        table.rows.append([name, str(len(found)), *cells, f"{better}, {better_open}"])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
