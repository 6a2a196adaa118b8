"""The rule for the default sample of `clipcite samples`, and its measurement.

    python -m benchmarks.samples

The rule was fixed before the first measurement. With the starter and the default settings a sample passes if

1. at least 9 of 10 seeds have the verdict `better`; each seed draws other training images,
2. no job takes more than 60 s on 2 cores, evaluation included,
3. nothing is downloaded once the sample is installed (a job that opens a connection fails here),
4. a person recognises the classes at 160 pixels (judged by eye, on the sheet that --sheet writes).

The default is the first of those that pass: photographs before drawings, then the smaller download.

Each run is stored in --out, and an interrupted series continues. On a busy machine use OMP_NUM_THREADS=1: an
idle core needs no longer than the processor seconds of one thread, which count if they are fewer.
"""

import argparse
import io
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.harness import facts
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.pipeline import Shot, adapt
from core.samples.catalog import available
from core.samples.sample import Sample
from core.settings import get_settings

MIN_BETTER, SEEDS, MAX_SECONDS = 9, 10, 60
KINDS = {"drawings": ("drawings", 31), "parts": ("drawings", 0), "textiles": ("photographs", 42)}
"""Kind of image and size of the download (MB). The textiles are simulated photographs."""
RECOGNISABLE = {"drawings": True, "parts": True, "textiles": False}
RESULTS = Path(__file__).parent / "results" / "samples.json"
SIDE = 160


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", nargs="+", default=[sample.name for sample in available()])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--sheet", type=Path, help="write the images at 160 pixels to this file and stop")
    options = parser.parse_args(arguments)
    samples = [sample for sample in available() if sample.name in options.samples]
    if options.sheet is not None:
        sheet(samples).save(options.sheet)
        return
    backbone = load_backbone("starter", cache=get_settings().cache)
    _forbid_connections()
    console = Console(highlight=False)
    for sample in samples:
        stored = json.loads(options.out.read_text()) if options.out.is_file() else {}
        runs = stored.get(sample.name, {}).get("runs", [])
        for seed in range(len(runs), options.seeds):
            runs.append(measure(sample, backbone, seed))
            console.print(f"{sample.name}, seed {seed}: {runs[-1]}")
            stored[sample.name] = {"runs": runs, **facts(backbone)}
            options.out.write_text(json.dumps(stored, indent=1) + "\n")
    console.print(table(stored))
    console.print(f"default: {default(stored) or 'none passes'}")


def measure(sample: Sample, backbone: Backbone, seed: int) -> dict[str, Any]:
    """Train and evaluate on one draw of the training images."""
    images: dict[str, list[Shot]] = {"train": [], "test": []}
    for path, data in sample.files(seed):
        split, class_name, _ = path.split("/")
        images[split].append(Shot(data, class_name))
    wall, processor = time.monotonic(), time.process_time()
    adapted = adapt(backbone, images["train"], resolve_config(seed=seed), tests=images["test"])
    metrics = adapted.evaluation.metrics
    rows = {"trained": metrics["trained_classes"], "new": metrics["new_classes"]}
    rows["all"] = metrics["all_classes"]["all"]
    return {
        "verdict": metrics["verdict"],
        "seconds": round(time.monotonic() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "images": {split: len(shots) for split, shots in images.items()},
        "accuracy": {
            name: {"stock": row["stock"], "adapted": row["adapted"]} for name, row in rows.items() if row
        },
        "difference": metrics["all_classes"]["all"]["difference"],
    }


def passes(name: str, runs: Sequence[dict[str, Any]]) -> bool:
    """Apply the rule to the runs of a sample."""
    return (
        sum(run["verdict"] == "better" for run in runs) >= MIN_BETTER
        and max(map(_seconds, runs)) <= MAX_SECONDS
        and RECOGNISABLE[name]
    )


def default(stored: dict[str, Any]) -> str | None:
    """Return the default sample by the rule, or None if none passes."""
    passing = [name for name, result in stored.items() if passes(name, result["runs"])]
    return min(passing, key=lambda name: (KINDS[name][0] != "photographs", KINDS[name][1]), default=None)


def table(stored: dict[str, Any]) -> Table:
    """Return the result per sample; accuracies are means over the seeds."""
    columns = ("sample", "better", "trained", "new", "all", "longest job", "recognisable", "MB", "passes")
    result = Table(*columns, box=None)
    for name, entry in stored.items():
        runs = entry["runs"]
        shown = [_change(runs, row) for row in ("trained", "new", "all")]
        better = f"{sum(run['verdict'] == 'better' for run in runs)} of {len(runs)}"
        longest = f"{max(map(_seconds, runs)):.0f} s"
        seen, passed = ("yes" if value else "no" for value in (RECOGNISABLE[name], passes(name, runs)))
        result.add_row(name, better, *shown, longest, seen, str(KINDS[name][1]), passed)
    return result


def _seconds(run: dict[str, Any]) -> float:
    return float(min(run["seconds"], run["processor_seconds"]))


def _change(runs: Sequence[dict[str, Any]], row: str) -> str:
    pairs = [run["accuracy"][row] for run in runs if row in run["accuracy"]]
    if not pairs:
        return ""
    stock, adapted = (sum(pair[model] for pair in pairs) / len(pairs) for model in ("stock", "adapted"))
    return f"{100 * stock:.0f}% → {100 * adapted:.0f}%"


def sheet(samples: Sequence[Sample], columns: int = 8) -> Image.Image:
    """Return the first images of each class at 160 pixels, one class per row."""
    rows = [(sample, name) for sample in samples for name in sample.classes]
    page = Image.new("RGB", (columns * SIDE, len(rows) * SIDE))
    for y, (sample, name) in enumerate(rows):
        for x in range(columns):
            image = Image.open(io.BytesIO(sample.load(name, x))).convert("RGB").resize((SIDE, SIDE))
            page.paste(image, (x * SIDE, y * SIDE))
    return page


def _forbid_connections() -> None:
    def refuse(*_: object) -> None:
        raise OSError("The rule allows no connection.")

    socket.socket.connect = refuse  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
