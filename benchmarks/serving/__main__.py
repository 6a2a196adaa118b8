"""How fast the service answers, and what it is compared with.

    python -m benchmarks.serving --data clothing cifar10 --part forms a b c d

forms  the bare network in every form: how fast, and how many predictions change
a      the service with 1, 8 and 32 clients against the bare network, 10 and 1,000 class names
b      against what open_clip's README does for each request, and another CLIP server
c      the first answer of a model not in memory, and of another α of one that is; ViT-B/16 sizes
d      a thousand models, memory for twenty, requests as Zipf's law has them, deletions and promotions

Every --data folder holds `test/CLASS/`. The service is `python -m api` on SQLite and files, asked over
HTTP by clients in this process, so both share the processors. Models are made without a training: their
answers mean nothing, their cost is that of real ones. Writes serving-PART.md and .json below --out.
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
from benchmarks.serving import cold, infinity, many, rivals, throughput
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
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--backbone", default=STARTER, help="or ViT-B-16, …: open_clip's, random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="a")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement in a round; a, b")
    parser.add_argument("--infinity", type=Path, help="b: the command infinity_emb, see infinity.py")
    parser.add_argument("--large", default="ViT-B-16", help="the network of part c")
    parser.add_argument("--models", type=int, default=1_000, help="d")
    parser.add_argument("--room", type=int, default=20, help="d: models that the memory is for")
    parser.add_argument("--requests", type=int, default=1_000, help="d")
    parser.add_argument("--zipf", type=float, default=1.0, help="d: the exponent")
    parser.add_argument("--compile", action="store_true", help="forms: torch.compile too, minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    given = parser.parse_args(arguments)
    sets = [load(folder) for folder in given.data]
    console = Console(width=160)
    for part in given.part:
        with tempfile.TemporaryDirectory() as folder:
            tables = PARTS[part](given, sets, Path(folder))
        suffix = "" if given.backbone == STARTER else f"-{given.backbone.replace('/', '-')}"
        write(tables, f"serving-{part}{suffix}", given.out, console)


def bring(given: argparse.Namespace, folder: Path) -> Backbone:
    """The backbone that --backbone names; one of open_clip's is made below the folder."""
    name = given.backbone if given.backbone == STARTER else make_backbone(folder / "net", given.backbone)
    size = resolve_config(backbone=name).image_size
    return load_backbone(name, cache=get_settings().cache, image_size=size, device=given.device)


def environment(given: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Of an API with a store of its own."""
    return {
        "CLIPCITE_DATA": str(folder / "data"),
        "CLIPCITE_CACHE": str(get_settings().cache),
        "CLIPCITE_BACKBONE_FOLDER": str(folder),
        "CLIPCITE_DEVICE": given.device,
    }


def part_forms(given: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(given, folder)
    # With random weights a changed answer means nothing.
    return forms_tables(backbone, sets, compiled=given.compile, compare=given.backbone == STARTER)


def part_a(given: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(given, folder)
    with store(folder / "data") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    test = sets[0].test
    files = [example.path for example in test[:: max(1, len(test) // throughput.IMAGES)]]
    with running_api(environment(given, folder)) as api:
        found = throughput.measure(
            api,
            backbone,
            model,
            files[: throughput.IMAGES],
            rounds=given.rounds,
            seconds=given.seconds,
        )
    title = f"{given.backbone} at {backbone.image_size} px, {torch.get_num_threads()} threads"
    return throughput.tables(found, title)


def part_b(given: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(given, folder)
    with store(folder / "data") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    images = [example.path.read_bytes() for example in sets[0].test[:: max(1, len(sets[0].test) // 32)]]
    with running_api(environment(given, folder)) as api:
        tables = [rivals.against_readme(api, backbone, model, images, given.rounds, given.seconds)]
    if given.infinity:
        tables.append(_beside_infinity(given, images, folder))
    return tables


def _beside_infinity(given: argparse.Namespace, images: Sequence[bytes], folder: Path) -> Table:
    name = make_backbone(folder / "same", infinity.ARCHITECTURE)
    backbone = load_backbone(name, cache=get_settings().cache, device=given.device)
    with store(folder / "other") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], CLASSES)
    del backbone
    settings = environment(given, folder) | {
        "CLIPCITE_BACKBONE": name,
        "CLIPCITE_DATA": str(folder / "other"),
    }
    with running_api(settings) as api:
        return infinity.against_infinity(
            api, model, images, given.infinity, folder / "theirs", given.rounds, given.seconds
        )


def part_c(given: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    name = make_backbone(folder / "net", given.large)
    backbone = load_backbone(name, cache=get_settings().cache, device=given.device)
    with store(folder / "data") as (database, blobs):
        names = [f"m{i}" for i in range(COLD_MODELS)]
        ids = publish_many(database, blobs, backbone, names, CLASSES)
        stored = len(blobs.get(f"models/{ids[0]}/{WEIGHTS}"))
    theta = sum(tensor.nbytes for tensor in tower_parameters(backbone.model).values())
    settings = environment(given, folder) | {
        "CLIPCITE_BACKBONE": name,
        # One network and one delta.
        "CLIPCITE_MODEL_CACHE_BYTES": str(int(theta + 1.7 * stored)),
    }
    del backbone
    with running_api(settings) as api:
        taken = cold.measure(api, ids, sets[0].test[0].path.read_bytes(), given.rounds)
    title = f"{given.large}, random weights, {torch.get_num_threads()} threads: seconds to an answer"
    return [cold.table(taken, title, stored)]


def part_d(given: argparse.Namespace, sets: Sequence[DataSet], folder: Path) -> list[Table]:
    backbone = bring(given, folder)
    with store(folder / "data") as (database, blobs):
        ids = publish_many(database, blobs, backbone, [f"m{i}" for i in range(given.models)], CLASSES)
        versions = publish_many(database, blobs, backbone, [many.NAME] * 2, CLASSES[::-1])
        key = f"models/{ids[0]}"
        manifest = read_manifest(blobs.get(f"{key}/{MANIFEST}"))
        weights = load_weights(blobs.get(f"{key}/{WEIGHTS}"), manifest, backbone)
    resident = adapted_model("", stock_model("", backbone), weights, 0.5).bytes + weights.bytes
    every = max(10, given.models // 25)  # from popular ones to those that hardly anybody asks for
    plan = many.Plan(
        models=ids,
        requests=zipf_requests(given.models, given.requests, given.zipf),
        versions=versions,
        deleted=range(every // 2, given.models, every),
        clients=CLIENTS_OF_MANY,
    )
    del backbone
    settings = environment(given, folder) | {"CLIPCITE_MODEL_CACHE_BYTES": str(given.room * resident)}
    with running_api(settings) as api:
        image = sets[0].test[0].path.read_bytes()
        seen = many.measure(api, plan, image, throughput.class_names(10), given.room)
    return [many.table(seen, plan, given.room)]


PARTS = {"forms": part_forms, "a": part_a, "b": part_b, "c": part_c, "d": part_d}


if __name__ == "__main__":
    main()
