"""Would a small job gain from a minimum of steps (benchmarks/plans/steps.md)?

    clipcite serve --data /tmp/steps --port 8765 --no-token
    export CLIPCITE_URL=http://127.0.0.1:8765
    python -m benchmarks.steps --data clothing cifar10 trashnet --out steps.json

A data set is a folder with `train/<class>/` and `test/<class>/`.
"""

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.data.listing import class_folders, images_in
from clipcite import Client

MEASURES = ("independent", "other", "mixed")
SHOTS, TESTS = 5, 40


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    with Client() as client:
        for seed in (0, 1):
            for folder in options.data:
                for epochs in (10, 30):
                    if not any(
                        (r["set"], r["seed"], r["epochs"]) == (folder.name, seed, epochs) for r in rows
                    ):
                        rows.append(measure(client, folder, seed, epochs))
                        options.out.write_text(json.dumps(rows, indent=1))
    at = {(row["set"], row["seed"], row["epochs"]): row for row in rows}
    for name in MEASURES:
        gains = {key[:2]: row[name] - at[*key[:2], 10][name] for key, row in at.items() if key[2] == 30}
        each = ", ".join(f"{data} {seed} {gain:+.4f}" for (data, seed), gain in gains.items())
        print(f"{name}: {mean(gains.values()):+.4f} ({each})")


def measure(client: Client, folder: Path, seed: int, epochs: int) -> dict[str, object]:
    generator = random.Random(f"{folder.name} {seed}")
    names = class_folders(folder / "test")
    generator.shuffle(names)
    base, new = names[: len(names) // 2], names[len(names) // 2 :]
    shots = {name: generator.sample(images_in(folder / "train" / name), SHOTS) for name in base}
    tests = {name: generator.sample(images_in(folder / "test" / name), TESTS) for name in names}
    started = time.monotonic()
    model = client.adapt(shots, config={"epochs": epochs, "evaluate": "none"}).wait(timeout=3600).model_id
    seconds = time.monotonic() - started

    def accuracy(asked: Sequence[str], of: Mapping[str, Sequence[Path]]) -> float:
        pairs = [(path, name) for name in asked for path in of[name]]
        results = client.classify([path for path, _ in pairs], asked, model=model)
        return mean(result.class_name == name for result, (_, name) in zip(results, pairs, strict=True))

    shares = (accuracy(asked, tests) for asked in (base, new, names))
    found = dict(zip(MEASURES, shares, strict=True))
    return {"set": folder.name, "seed": seed, "epochs": epochs, **found, "seconds": seconds}


if __name__ == "__main__":
    main()
