"""Attacks by archives: tar headers, zip bombs, tensors of unexpected types."""

import hashlib
import json
import random
import struct
import tempfile
import zipfile
from functools import cache, partial
from pathlib import Path

import torch

from benchmarks.attacks import crafted
from benchmarks.attacks.measure import MB, Limits, Row
from benchmarks.attacks.service import Target, run_concurrently
from core.clip.models.backbone import load_backbone, tower_parameters
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights, save_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS
from core.clip.weights.support_set import SupportSet
from tests.api import crafted as images

MAX_REQUEST_BYTES = 50 * MB
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
ITEM_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
SHOTS = "shot_features"


def rows(small: bool) -> list[Row]:
    numbers, heads = (50_000, 2) if small else (10_000_000, 100)
    limits = Limits(growth=64 * MB, cpu=2)
    uploads = 4 if small else 40
    return [
        Row(
            "A7a",
            f"dry run of a tar with a sparse map of {numbers:,} numbers",
            lambda target: target.dry_run_of(_sparse(numbers)),
            honest_archive,
            limits,
            seconds=60,
        ),
        Row(
            "A7b",
            f"dry run of a tar with {heads} global headers of 5,000 keys",
            lambda target: target.dry_run_of(_heads(heads)),
            honest_archive,
            limits,
            seconds=60,
        ),
        Row("A7c", "dry run of a tar with 400 headers for one file", chains, honest_chains, limits),
        Row(
            "A9",
            f"{uploads} concurrent dry runs of 48 kB, which unpack to 48 MB each",
            lambda target: run_concurrently(
                [lambda: target.dry_run_of(crafted.zeros_zip(3, 16 * MB))] * uploads
            ),
            honest_archive,
            Limits(scratch=4 * MAX_REQUEST_BYTES),
            statuses=frozenset({422, 503}),
            repeats=False,
            environment={"CLIPCITE_MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES)},
        ),
        Row(
            "A9-spool",
            f"{uploads} concurrent dry runs of 40 MB each",
            lambda target: run_concurrently([lambda: target.dry_run_of(_incompressible())] * uploads),
            honest_archive,
            Limits(scratch=4 * MAX_REQUEST_BYTES),
            statuses=frozenset({422, 503}),
            repeats=False,
            environment={"CLIPCITE_MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES)},
        ),
        Row(
            "A12",
            f"POST /models, {len(ITEM_BYTES) - 1} models with tensors of another type",
            changed_models,
            honest_models,
            Limits(growth=64 * MB, cpu=2),
            statuses=frozenset({201, 422}),  # a support set may also be BF16
            repeats=False,
        ),
    ]


@cache
def _sparse(numbers: int) -> bytes:
    return crafted.sparse_tar(numbers)


@cache
def _heads(count: int) -> bytes:
    return crafted.global_headers_tar(count)


@cache
def _incompressible() -> bytes:
    """Return a zip of 40 MB, which is stored and unpacked at the same size."""
    noise = random.Random(0).randbytes(10 * MB)
    return images.zip_of({f"fox/{i}.bmp": b"BM" + noise for i in range(4)}, zipfile.ZIP_STORED)


def honest_archive(target: Target) -> None:
    """Send a dry run of 20 images."""
    target.dry_run_of(images.zip_of(images.two_classes(10)))


def chains(target: Target) -> None:
    for kind in (b"x", b"L"):
        target.dry_run_of(crafted.header_chain_tar(kind))


def honest_chains(target: Target) -> None:
    for _ in range(2):
        honest_archive(target)


def honest_models(target: Target) -> None:
    """Send as many models as the attack, all valid."""
    model = model_files(target.environment["CLIPCITE_BACKBONE"])
    for _ in range(len(ITEM_BYTES) - 1):
        import_model(target, model)


def changed_models(target: Target) -> None:
    """Send the same bytes with other tensor types in the file header."""
    model = model_files(target.environment["CLIPCITE_BACKBONE"])
    for kind in ITEM_BYTES:
        changed = _with_type(model, kind)
        if changed is not None:
            import_model(target, changed)


def import_model(target: Target, files: dict[str, bytes], clients: int = 1) -> None:
    form = {"archive": ("model.zip", images.zip_of(files))}
    run_concurrently([partial(target.send, "POST", "/models", files=form)] * clients)


@cache
def model_files(backbone_name: str) -> dict[str, bytes]:
    """Return the files of a model with a support set and the backbone's own parameters."""
    with tempfile.TemporaryDirectory() as folder:
        backbone = load_backbone(backbone_name, cache=Path(folder))
        parameters = {name: p.detach() for name, p in tower_parameters(backbone.model).items()}
        features = torch.nn.functional.normalize(torch.ones(3, 4, 32), dim=-1)
        save_weights(
            Path(folder),
            Weights(encode(parameters, parameters, "4bit"), SupportSet(features, torch.tensor([0, 0, 1, 1]))),
            backbone=backbone,
            class_names=("red fox", "Badger"),
            config={"backbone": backbone.name, "alpha": 0.5, "delta_format": "4bit"},
        )
        return {name: (Path(folder) / name).read_bytes() for name in (WEIGHTS, MANIFEST)}


def _with_type(files: dict[str, bytes], kind: str) -> dict[str, bytes] | None:
    """Return the files with this type for the support set, or None if it has the type already."""
    data = files[WEIGHTS]
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    tensor = header[SHOTS]
    if tensor["dtype"] == kind:
        return None
    last = tensor["shape"][-1] * ITEM_BYTES[tensor["dtype"]]
    tensor["dtype"], tensor["shape"][-1] = kind, last // ITEM_BYTES[kind]
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    changed = struct.pack("<Q", len(head)) + head + data[8 + length :]
    sha256 = hashlib.sha256(changed).hexdigest()
    manifest = json.loads(files[MANIFEST]) | {"sha256": sha256, "bytes": len(changed)}
    return {WEIGHTS: changed, MANIFEST: json.dumps(manifest).encode()}
