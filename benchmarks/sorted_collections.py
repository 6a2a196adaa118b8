"""Accuracy of a sorted collection before and after corrections (benchmarks/pages/sorting.md).

    clipcite serve --data /tmp/sorting --port 8765
    export CLIPCITE_DATA=/tmp/sorting
    python -m benchmarks.sorted_collections --data clothing cifar10 clipart --out sorting.json

Everything goes over HTTP: training, sorting, corrections. A data set is a folder with `train/<class>/` and
`test/<class>/`.
"""

import argparse
import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders, images_in
from clipcite import Client, Job, Model
from clipcite.types.predictions import ImageResult

SHOTS, ROUNDS, MAX_IMAGES, NEW = 5, (20, 30), 800, 2
ORDERS = ("chosen", "random")


def draw(folder: Path, seed: int) -> tuple[dict[str, list[Path]], dict[Path, str]]:
    """Return the shots by class, and the class of each image of the collection."""
    generator = random.Random(seed)
    shots: dict[str, list[Path]] = {}
    collection: dict[Path, str] = {}
    for name in class_folders(folder / "test"):
        images = [path for part in ("train", "test") for path in images_in(folder / part / name)]
        generator.shuffle(images)
        shots[name] = images[:SHOTS]
        collection |= dict.fromkeys(images[SHOTS:], name)
    kept = generator.sample(sorted(collection), min(MAX_IMAGES, len(collection)))
    return shots, {path: collection[path] for path in kept}


def sort(
    client: Client, model: Model, names: Sequence[str], truth: dict[Path, str], labelled: set[Path], more: int
) -> tuple[dict[str, Any], list[Path]]:
    """Return a row of the table, and the `more` images that the service suggests to label."""
    paths = list(truth)
    started = time.monotonic()
    single = client.classify(paths, names, model=model.id, features=True)
    seconds = time.monotonic() - started
    whole = client.classify_collection(
        [result.features or "" for result in single],
        names,
        model=model.id,
        top_k=1,
        suggest=more,
        labels={i: truth[path] for i, path in enumerate(paths) if path in labelled},
    )

    def right(answers: Iterable[ImageResult]) -> float:
        hits = [
            path in labelled or each.class_name == truth[path]
            for path, each in zip(paths, answers, strict=True)
        ]
        return sum(hits) / len(hits)

    row = {
        "trained": len(model.trained_classes),
        "labels": len(labelled),
        "images": len(paths),
        "image by image": right(single),
        "collection": right(whole),
        "method": whole.method,
        "expected wrong": sum(
            1 - each.best.probability for path, each in zip(paths, whole, strict=True) if path not in labelled
        ),
        "wrong": round(len(paths) * (1 - right(whole))),
        "seconds": seconds,
    }
    return row, [paths[i] for i in whole.suggested]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    with Client() as client:
        for new, folder in itertools.product((0, NEW), options.data):
            setting = "two new" if new else "all trained"
            if not any((row["set"], row["setting"]) == (folder.name, setting) for row in rows):
                rows += measure(client, folder, options.seed, new)
                options.out.write_text(json.dumps(rows, indent=1))
    columns = [
        "set",
        "setting",
        "order",
        "labels",
        "images",
        "image by image",
        "collection",
        "expected wrong",
        "wrong",
    ]
    table = Table("A sorted collection", columns)
    for row in rows:
        shares = [figure(row[column]) for column in ("image by image", "collection")]
        counts = [str(row[column]) for column in columns[:5]]
        table.rows.append([*counts, *shares, f"{row['expected wrong']:.0f}", str(row["wrong"])])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


def measure(client: Client, folder: Path, seed: int, new: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set, for both orders of labelling."""
    shots, truth = draw(folder, seed)
    names = sorted(shots)
    first = trained(client, client.adapt({name: shots[name] for name in names[: len(names) - new]}))
    for order in ORDERS:
        model, labelled = first, set[Path]()
        for n in (*ROUNDS, 0):
            row, suggested = sort(client, model, names, truth, labelled, n)
            yield {"set": folder.name, "setting": "two new" if new else "all trained", "order": order, **row}
            if n:
                free = [path for path in truth if path not in labelled]
                picked = suggested if order == "chosen" else random.Random(seed).sample(free, n)
                by_class: dict[str, list[Path]] = defaultdict(list)
                for path in picked:
                    by_class[truth[path]].append(path)
                labelled |= set(picked)
                model = trained(client, model.extend(by_class))


def trained(client: Client, job: Job) -> Model:
    return client.models.get(job.wait().model_id)


if __name__ == "__main__":
    main()
