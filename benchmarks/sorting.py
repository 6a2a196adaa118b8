"""Accuracy of a sorted collection before and after corrections (benchmarks/plans/which-next.md, step 2).

    clipcite serve --data /tmp/sorting --port 8765
    CLIPCITE_DATA=/tmp/sorting python -m benchmarks.sorting --data clothing cifar10 clipart --out sorting.json

Everything goes over HTTP: training, sorting, corrections. A data set is a folder with `train/<class>/` and
`test/<class>/`.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders, images_in
from clipcite import Client, Model
from clipcite.sorting.which_next import which_next

SHOTS, ROUNDS, MAX_IMAGES, NEW = 5, (20, 30), 800, 2
ORDERS = ("chosen", "random")


def draw(folder: Path, seed: int) -> tuple[dict[str, list[Path]], dict[Path, str]]:
    """Return the shots by class, and the class of each image of the collection."""
    generator = random.Random(seed)
    shots, collection = {}, {}
    for name in class_folders(folder / "test"):
        images = [path for part in ("train", "test") for path in images_in(folder / part / name)]
        generator.shuffle(images)
        shots[name] = images[:SHOTS]
        collection |= dict.fromkeys(images[SHOTS:], name)
    kept = generator.sample(sorted(collection), min(MAX_IMAGES, len(collection)))
    return shots, {path: collection[path] for path in kept}


def sort(
    client: Client, model: Model, names: Sequence[str], truth: dict[Path, str], labelled: set[Path]
) -> tuple[dict[str, object], dict[Path, list[tuple[str, float]]]]:
    """Return a row of the table, and the ranked classes of each image that the person has not labelled."""
    paths = list(truth)
    started = time.monotonic()
    single = client.classify(paths, names, model=model.id)
    seconds = time.monotonic() - started
    whole = client.sort(paths, names, model=model.id, top_k=len(names))
    answers = {
        path: [(p.class_name, p.probability) for p in result.predictions]
        for path, result in zip(paths, whole.results, strict=True)
    }
    free = [path for path in paths if path not in labelled]
    hits = {
        kind: sum(path in labelled or found.class_name == truth[path] for path, found in zip(paths, answer.results, strict=True))
        for kind, answer in (("image by image", single), ("collection", whole))
    }
    row = {
        "trained": len(model.classes),
        "labels": len(labelled),
        "images": len(paths),
        **{kind: count / len(paths) for kind, count in hits.items()},
        "expected wrong": sum(1 - answers[path][0][1] for path in free),
        "wrong": len(paths) - hits["collection"],
        "method": whole.method,
        "seconds": seconds,
    }
    return row, {path: answers[path] for path in free}


def choose(order: str, answers: dict[Path, list[tuple[str, float]]], names: Sequence[str], n: int, seed: int) -> list[Path]:
    paths = list(answers)
    if order == "random":
        return random.Random(seed).sample(paths, n)
    probabilities = [[dict(ranked)[name] for name in names] for ranked in answers.values()]
    return [paths[i] for i in which_next(probabilities, n)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, object]] = json.loads(options.out.read_text()) if options.out.exists() else []
    with Client() as client:
        for folder in options.data:
            shots, truth = draw(folder, options.seed)
            for new in (0, NEW):
                setting = "two new" if new else "all trained"
                if any(row["set"] == folder.name and row["setting"] == setting for row in rows):
                    continue
                rows += measure(client, folder.name, setting, shots, truth, new, options.seed)
                options.out.write_text(json.dumps(rows, indent=1))
    columns = ["set", "setting", "order", "labels", "images", "image by image", "collection", "expected wrong", "wrong"]
    table = Table("A sorted collection", columns)
    for row in rows:
        table.rows.append([figure(v) if isinstance(v := row[c], float) and v <= 1 else f"{v:.0f}" if isinstance(v, float) else str(v) for c in columns])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


def measure(
    client: Client, name: str, setting: str, shots: dict[str, list[Path]], truth: dict[Path, str], new: int, seed: int
) -> list[dict[str, object]]:
    names = sorted(shots)
    trained = names[: len(names) - new]
    first = client.adapt({c: shots[c] for c in trained}).wait().model()
    rows = []
    for order in ORDERS:
        model, labelled = first, set()
        row, answers = sort(client, model, names, truth, labelled)
        rows.append({"set": name, "setting": setting, "order": order, **row})
        for n in ROUNDS:
            picked = choose(order, answers, names, n, seed)
            by_class = defaultdict(list)
            for path in picked:
                by_class[truth[path]].append(path)
            labelled |= set(picked)
            model = model.extend(by_class).wait().model()
            row, answers = sort(client, model, names, truth, labelled)
            rows.append({"set": name, "setting": setting, "order": order, **row})
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
