"""Speed of the service, and of the bare network.

    python -m benchmarks.serving --data clothing cifar10 --part a c
    python -m benchmarks.serving --data clothing --part precision --backbone ViT-B-16/openai

a      the service with 1, 8 and 32 clients against the bare network, with 10 and 1,000 classes
c      first response of a model that is not in memory, and of another α of one that is; ViT-B/16 sizes
precision
       changed answers and speed in the precisions of the device; trains a model first

untrained
       images that also pass through the pre-trained network, and the time of each kind of request, for a
       model trained on half of the classes of the first --data folder; the second one is unrelated

Each --data folder holds `test/CLASS/`. The service is `python -m api` on SQLite and files. Its clients run in
this process, so both share the processors. Models are created without training: their predictions are
meaningless, their cost is realistic. The output is serving-PART.md and .json below --out.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import fewer_tests
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.running_api import running_api
from benchmarks.serving import cold, precision, throughput, untrained
from benchmarks.serving.stored import make_backbone, publish_many, store
from core.clip.config import STARTER, resolve_config
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters
from core.clip.weights.manifest import WEIGHTS
from core.settings import get_settings
from tests.api.serving.adapted import publish_model

CLASSES = ["red fox", "badger"]
COLD_MODELS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with test/CLASS/")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=["a", "c"])
    parser.add_argument(
        "--backbone",
        default=STARTER,
        help="starter, or an open_clip architecture with random weights, for example ViT-B-16; part\n"
        "precision: also a backbone with its own weights, for example ViT-B-16/openai",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of parts a and c (default 5)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="duration of each measurement in a round of a (seconds, default 5)",
    )
    parser.add_argument(
        "--large", default="ViT-B-16", help="part c: open_clip architecture (default ViT-B-16)"
    )
    parser.add_argument(
        "--epochs", type=int, help="part precision: epochs of the training (default: the recipe's)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    sets = [load(folder) for folder in options.data]
    console = Console(width=160)
    for part in options.part:
        with tempfile.TemporaryDirectory() as folder:
            tables = PARTS[part](options, sets, Path(folder))
        suffix = "" if options.backbone == STARTER else f"-{options.backbone.replace('/', '-')}"
        write(tables, f"serving-{part}{suffix}", options.out, console)


def bring(options: argparse.Namespace, folder: Path) -> Backbone:
    """Load the backbone of the options. An open_clip architecture is created below the folder."""
    name = options.backbone
    if name != STARTER and "/" not in name:
        name = make_backbone(folder / "net", name)
    size = resolve_config(backbone=name).image_size
    return load_backbone(name, cache=get_settings().cache, image_size=size, device=options.device)


def environment(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the settings of an API with its own store."""
    return {
        "CLIPCITE_DATA": str(folder / "data"),
        "CLIPCITE_CACHE": str(get_settings().cache),
        "CLIPCITE_DEVICE": options.device,
    }


def part_a(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    with store(folder / "data") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    test = sets[0].test
    files = [example.path for example in test[:: max(1, len(test) // throughput.IMAGES)]]
    with running_api(environment(options, folder)) as api:
        measured = throughput.measure(
            api,
            backbone,
            model,
            files[: throughput.IMAGES],
            rounds=options.rounds,
            seconds=options.seconds,
        )
    title = f"{options.backbone} at {backbone.image_size} px, {torch.get_num_threads()} threads"
    return throughput.tables(measured, title)


def part_c(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    name = make_backbone(folder / "net", options.large)
    backbone = load_backbone(name, cache=get_settings().cache, device=options.device)
    with store(folder / "data") as (database, blobs):
        names = [f"m{i}" for i in range(COLD_MODELS)]
        ids = publish_many(database, blobs, backbone, names, CLASSES)
        stored = len(blobs.get(f"models/{ids[0]}/{WEIGHTS}"))
    theta = sum(tensor.nbytes for tensor in tower_parameters(backbone.model).values())
    settings = environment(options, folder) | {
        "CLIPCITE_BACKBONE": name,
        # Room for one network and one delta.
        "CLIPCITE_MODEL_CACHE_BYTES": str(int(theta + 1.7 * stored)),
    }
    del backbone
    with running_api(settings) as api:
        taken = cold.measure(api, ids, sets[0].test[0].path.read_bytes(), options.rounds)
    title = f"{options.large}, random weights, {torch.get_num_threads()} threads: seconds to a response"
    return [cold.table(taken, title, stored)]


def part_precision(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    tables = []
    for data in sets:
        results = precision.measure(backbone, precision.make_task(backbone, data, options.epochs))
        tables.append(precision.table(results, f"{data.name}, {options.backbone}, on {backbone.device}"))
    return tables


def part_untrained(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    if len(sets) < 2:
        raise SystemExit("Part untrained needs two --data folders. The second one is unrelated.")
    backbone = bring(options, folder)
    data, other = (fewer_tests(one, untrained.IMAGES) for one in sets[:2])
    task = precision.make_task(backbone, data, options.epochs)
    names = [data.class_names[label] for label in task.base]
    with store(folder / "data") as (database, blobs):
        delta, shots = task.weights.delta, task.weights.shots
        model = publish_model(database, blobs, backbone, delta=delta, shots=shots, classes=names)
    with running_api(environment(options, folder)) as api:
        requests = untrained.requests_of(data, other, task.base)
        taken = untrained.measure(api, model, requests, options.rounds)
    threads = torch.get_num_threads()
    title = (
        f"{options.backbone} at {backbone.image_size} px, {data.name}, then {other.name}, {threads} threads"
    )
    return [untrained.table(taken, title)]


PARTS = {
    "a": part_a,
    "c": part_c,
    "precision": part_precision,
    "untrained": part_untrained,
}


if __name__ == "__main__":
    main()
