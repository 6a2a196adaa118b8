"""Piles with strangers, sorted by the command `clipcite sort` (benchmarks/pages/pile.md).

    clipcite serve --data /tmp/piles --port 8765
    export CLIPCITE_DATA=/tmp/piles
    python -m benchmarks.sorted_piles --data clothing cifar10 trashnet --out piles.json

Half of the classes are trained. Images of the others are near strangers, and images of the next data set are
far ones.
A data set is a folder with `train/<class>/` and `test/<class>/`. *Before* is `clipcite sort
--no-something-else`.
"""

import argparse
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders, images_in
from clipcite import Client

SHOTS = (5, 16)
PILES = {
    "none": (1, 0, 0),
    "near": (1, 1, 0),
    "far": (1, 0, 1),
    "both": (2, 1, 1),
    "only strangers": (0, 1, 1),
}
"""Parts of known photos, near strangers and far strangers."""
MEASURES = ("P", "R", "let", "kept")
SIZES = {"near": (60, 240, 1000)}
"""Images of a pile, 240 for the others. A pile is smaller if the data set has fewer."""


def draw(generator: random.Random, names: Sequence[str], folder: Path, count: int) -> list[tuple[str, Path]]:
    """Return up to `count` test images with their classes."""
    found = [(name, path) for name in names for path in images_in(folder / "test" / name)]
    return generator.sample(found, min(count, len(found)))


def sort(pile: Sequence[Path], model: str, *options: str) -> list[dict[str, Any]]:
    """Run the command on a folder of these images. Return the place of each, in the order of the pile."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "pile"
        folder.mkdir()
        for number, path in enumerate(pile):
            shutil.copy(path, folder / f"{number:05}{path.suffix}")
        command = [sys.executable, "-m", "clipcite", "sort", str(folder), "--model", model, "--json"]
        # Nothing is copied without --yes. The second call continues the log of the first.
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        if not done.stdout:
            raise RuntimeError(done.stderr)
        images = {Path(image["file"]).stem: image for image in json.loads(done.stdout)["images"]}
        return [images[f"{number:05}"] for number in range(len(pile))]


def measures(truth: Sequence[str | None], found: Sequence[str | None]) -> dict[str, float]:
    """Return P, R and kept if there are known photos, and let if there are strangers.

    Args:
        truth: class of each image; None for strangers.
        found: class folder of each image; None for another folder.
    """
    places = [(place is not None, place == name) for name, place in zip(truth, found, strict=True) if name]
    filed = [place is not None for name, place in zip(truth, found, strict=True) if name is None]
    result = {}
    if places:
        kept, right = (sum(column) for column in zip(*places, strict=True))
        result = {
            "P": right / max(kept + sum(filed), 1),
            "R": right / len(places),
            "kept": kept / len(places),
        }
    if filed:
        result["let"] = sum(filed) / len(filed)
    return result


def measure(client: Client, folder: Path, other: Path, shots: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per pile and size."""
    generator = random.Random(f"{folder.name} {seed}")
    names = class_folders(folder / "test")
    generator.shuffle(names)
    trained, untrained = names[: len(names) // 2], names[len(names) // 2 :]
    images = {name: generator.sample(images_in(folder / "train" / name), shots) for name in trained}
    model = client.adapt(images).wait().model_id or ""
    for pile, parts in PILES.items():
        for size in SIZES.get(pile, (240,)):
            unit = size // sum(parts)
            known = draw(generator, trained, folder, parts[0] * unit)
            near = draw(generator, untrained, folder, parts[1] * unit)
            far = draw(generator, class_folders(other / "test"), other, parts[2] * unit)
            if parts[1]:  # equal parts, even if the data set is small
                known = known[: len(near) * parts[0] // parts[1]]
            truth: list[str | None] = [name for name, _ in known]
            truth += [None] * (len(near) + len(far))
            paths = [path for _, path in [*known, *near, *far]]
            before = sort(paths, model, "--no-something-else", "--unsure", "0.5")
            after = sort(paths, model, "--unsure", "0")
            yield {
                "set": folder.name,
                "seed": seed,
                "shots": shots,
                "pile": pile,
                "at most": size,
                "images": len(paths),
                "before": measures(truth, [None if each["unsure"] else each["class"] for each in before]),
                "after": measures(
                    truth, [None if each["something_else"] else each["class"] for each in after]
                ),
            }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    others = [*options.data[1:], options.data[0]]
    with Client() as client:
        pairs = list(zip(options.data, others, strict=True))
        for shots, seed, (folder, other) in itertools.product(options.shots, options.seeds, pairs):
            if not any((row["set"], row["shots"], row["seed"]) == (folder.name, shots, seed) for row in rows):
                rows += measure(client, folder, other, shots, seed)
                options.out.write_text(json.dumps(rows, indent=1))
    Console(width=200).print(table(rows).markdown(), markup=False, soft_wrap=True)


def mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return figure(sum(known) / len(known)) if known else "–"


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the means over sets and seeds."""
    made = Table("Sorted piles", ["shots", "pile", "images, at most", "runs", "before", "after"])
    for shots, pile, size in dict.fromkeys((row["shots"], row["pile"], row["at most"]) for row in rows):
        alike = [row for row in rows if (row["shots"], row["pile"], row["at most"]) == (shots, pile, size)]
        cells = [
            " / ".join(mean([row[part].get(name) for row in alike]) for name in MEASURES)
            for part in ("before", "after")
        ]
        made.rows.append([str(shots), pile, str(size), str(len(alike)), *cells])
    return made


if __name__ == "__main__":
    main()
