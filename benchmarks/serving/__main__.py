"""Speed of the service, and of the alternatives.

    python -m benchmarks.serving --data clothing cifar10 --part forms a b c d e
    python -m benchmarks.serving --data clothing --part precision

forms  the bare network in several forms: speed and changed predictions
a      the service with 1, 8 and 32 clients against the bare network, with 10 and 1,000 classes
b      the service against the code of open_clip's README and another CLIP server
c      first response of a model that is not in memory, and of another α of one that is; ViT-B/16 sizes
d      a thousand models, memory for twenty, requests by Zipf's law, deletions and promotions
e      the price of decoding in other processes
precision
       changed answers and speed in tf32, bf16 and fp16, which a CPU emulates; trains a model first

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
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.running_api import running_api
from benchmarks.serving import cold, decoders, infinity, many, precision, rivals, throughput
from benchmarks.serving.forms import forms_tables
from benchmarks.serving.stored import make_backbone, publish_many, store
from benchmarks.serving.zipf import zipf_requests
from core.clip.config import STARTER, resolve_config
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters
from core.clip.weights.files import load_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.serving.pool.served_model import adapted_model, stock_model
from core.settings import get_settings

CLASSES = ["red fox", "badger"]
COLD_MODELS = 3
CLIENTS_OF_MANY = 8


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with test/CLASS/")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=["forms", *"abcde"])
    parser.add_argument(
        "--backbone",
        default=STARTER,
        help="starter, or an open_clip architecture with random weights, for example ViT-B-16; part\n"
        "precision: also a backbone with its own weights, for example ViT-B-16/openai",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of parts a, b and c (default 5)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="duration of each measurement in a round of a and b (seconds, default 5)",
    )
    parser.add_argument(
        "--infinity", type=Path, help="part b: path of the command infinity_emb, see infinity.py"
    )
    parser.add_argument(
        "--large", default="ViT-B-16", help="part c: open_clip architecture (default ViT-B-16)"
    )
    parser.add_argument("--models", type=int, default=1_000, help="part d: number of models (default 1,000)")
    parser.add_argument(
        "--room", type=int, default=20, help="part d: models that fit in the memory budget (default 20)"
    )
    parser.add_argument(
        "--requests", type=int, default=1_000, help="part d: number of requests (default 1,000)"
    )
    parser.add_argument(
        "--epochs", type=int, help="part precision: epochs of the training (default: the recipe's)"
    )
    parser.add_argument("--zipf", type=float, default=1.0, help="part d: exponent of Zipf's law (default 1)")
    parser.add_argument(
        "--compile", action="store_true", help="forms: include torch.compile, which takes minutes"
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
        "CLIPCITE_BACKBONE_FOLDER": str(folder),
        "CLIPCITE_DEVICE": options.device,
    }


def part_forms(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    # With random weights a changed prediction is meaningless.
    return forms_tables(backbone, sets, compiled=options.compile, compare=options.backbone == STARTER)


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


def part_b(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    with store(folder / "data") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    images = [example.path.read_bytes() for example in sets[0].test[:: max(1, len(sets[0].test) // 32)]]
    with running_api(environment(options, folder)) as api:
        tables = [rivals.against_readme(api, backbone, model, images, options.rounds, options.seconds)]
    if options.infinity:
        tables.append(_beside_infinity(options, images, folder))
    return tables


def _beside_infinity(options: argparse.Namespace, images: Sequence[bytes], folder: Path) -> Table:
    name = make_backbone(folder / "same", infinity.ARCHITECTURE)
    backbone = load_backbone(name, cache=get_settings().cache, device=options.device)
    with store(folder / "other") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    del backbone
    settings = environment(options, folder) | {
        "CLIPCITE_BACKBONE": name,
        "CLIPCITE_DATA": str(folder / "other"),
    }
    with running_api(settings) as api:
        return infinity.against_infinity(
            api, model, images, options.infinity, folder / "theirs", options.rounds, options.seconds
        )


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


def part_d(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    with store(folder / "data") as (database, blobs):
        ids = publish_many(database, blobs, backbone, [f"m{i}" for i in range(options.models)], CLASSES)
        versions = publish_many(database, blobs, backbone, [many.NAME] * 2, CLASSES[::-1])
        key = f"models/{ids[0]}"
        manifest = read_manifest(blobs.get(f"{key}/{MANIFEST}"))
        weights = load_weights(blobs.get(f"{key}/{WEIGHTS}"), manifest, backbone)
    resident = adapted_model("", stock_model("", backbone), weights, 0.5).bytes + weights.bytes
    every = max(10, options.models // 25)  # from popular ones to those that hardly anybody asks for
    plan = many.Plan(
        models=ids,
        requests=zipf_requests(options.models, options.requests, options.zipf),
        versions=versions,
        deleted=range(every // 2, options.models, every),
        clients=CLIENTS_OF_MANY,
    )
    del backbone
    settings = environment(options, folder) | {"CLIPCITE_MODEL_CACHE_BYTES": str(options.room * resident)}
    with running_api(settings) as api:
        image = sets[0].test[0].path.read_bytes()
        seen = many.measure(api, plan, image, throughput.class_names(10), options.room)
    return [many.table(seen, plan, options.room)]


def part_e(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    folders = [folder / name for name in ("within", "apart")]
    for data in folders:
        with store(data):
            pass
    settings = environment(options, folder) | {"CLIPCITE_BACKBONE": backbone.name}
    test = sets[0].test
    files = [example.path for example in test[:: max(1, len(test) // throughput.IMAGES)]]
    measured = decoders.measure(settings, folders, files, options.rounds, options.seconds)
    return [
        decoders.table(measured, f"{options.backbone}, {torch.get_num_threads()} threads: decoder processes")
    ]


def part_precision(options: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(options, folder)
    tables = []
    for data in sets:
        results = precision.measure(backbone, precision.make_task(backbone, data, options.epochs))
        tables.append(precision.table(results, f"{data.name}, {options.backbone}, on {backbone.device}"))
    return tables


PARTS = {
    "forms": part_forms,
    "a": part_a,
    "b": part_b,
    "c": part_c,
    "d": part_d,
    "e": part_e,
    "precision": part_precision,
}


if __name__ == "__main__":
    main()
