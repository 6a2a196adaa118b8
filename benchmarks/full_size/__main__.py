"""Real architectures at full size, from a model hub to a model that open_clip loads.

    python -m benchmarks.full_size
    python -m benchmarks.full_size --backbone ViT-B-32/openai --steps 3
    python -m benchmarks.full_size --skip-training
    python -m benchmarks.full_size --backbone MobileCLIP-S2/datacompdr --only-extend --steps 1

For each backbone, a local hub serves random weights of the real shapes under the real name. A service on this
machine then downloads them, trains, classifies, exports, imports and extends. Times, memory and sizes are
those of the real weights; accuracy is not, because the weights are random. With `--skip-training`, random
changes of all weights are imported instead: answers, sizes and the memory to serve need no training.
`--only-extend` trains the image tower alone and extends that model, which takes the least memory.

The results are added to benchmarks/results/full_size.json and to the table in docs/operate/backbones.md.
`--table` prints it without any run. A batch of 32 is left out where the memory is too small.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.full_size.answers import CLASSES, difference, from_onnx, from_open_clip, served
from benchmarks.full_size.service import Service, running_service
from benchmarks.full_size.table import BACKBONES, store, stored, table
from benchmarks.machine import load_average, processor
from clipcite import Client, Job, Model
from core.clip.config import resolve_config
from core.clip.models.sizes import size_of
from core.clip.models.sources import find_source
from tests.core.clip.families import write_repository
from tests.hub import Hub, running_hub

BATCH = 32
TEST_IMAGES = 8
NEW_SHOTS = 8
IMAGE_SIDE = 256
MAX_IMPORT_BYTES = 8_000_000_000
"""An exported ViT-L/14 has more than the default limit of a request."""
TOLERANCE = 1e-4
"""Maximum difference between the service's results and an export's."""


def main() -> None:
    options = _parser().parse_args()
    for backbone in () if options.table else options.backbone or BACKBONES:
        print(f"== {backbone}", flush=True)
        measured: dict[str, Any] = {}
        try:
            with tempfile.TemporaryDirectory(prefix="clipcite-full-size-") as folder:
                measure(backbone, Path(folder), options, measured)
        finally:  # what a failing run has measured, holds
            if options.only_extend:  # its other figures describe another training
                measured = {key: value for key, value in measured.items() if key == "extended"}
            results = stored()  # another run may have written
            results[backbone] = {**results.get(backbone, {}), **measured}
            store(results)
    print(table(stored()))


def measure(backbone: str, folder: Path, options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Run everything for one backbone, and add the measurements to `result`."""
    images = make_images(options.steps * BATCH + TEST_IMAGES + NEW_SHOTS, folder / "images")
    result |= {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "recipe_micro_batch_size": resolve_config(backbone=backbone).micro_batch_size,
        "steps": options.steps,
    }
    with running_hub() as hub:
        result["disk_bytes"] = publish(hub, backbone, folder / "hub")
        settings = {
            "CLIPCITE_BACKBONE": backbone,
            "CLIPCITE_CACHE": str(folder / "cache"),
            "CLIPCITE_MAX_ATTEMPTS": "1",
            "CLIPCITE_MAX_REQUEST_BYTES": str(MAX_IMPORT_BYTES),
            "HF_ENDPOINT": hub.url,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        with running_service(folder, settings) as (service, ready_seconds), Client(service.url) as client:
            result["ready_seconds"] = ready_seconds
            result["downloads"] = len(hub.transfers())
            exercise(client, service, backbone, images, folder, options, result)


def exercise(
    client: Client,
    service: Service,
    backbone: str,
    images: list[Path],
    folder: Path,
    options: argparse.Namespace,
    result: dict[str, Any],
) -> None:
    tests, new, shots = images[:TEST_IMAGES], images[-NEW_SHOTS:], images[TEST_IMAGES:-NEW_SHOTS]
    if options.only_extend:
        job = train(client, shots, CLASSES, options.micro, text_learning_rate=0.0)
        assert job.model_id is not None
        extend(client, client.models.get(job.model_id), tests, new, options.micro, text_learning_rate=0.0)
        result["extended"] = True
        return
    client.classify(tests, CLASSES)
    result["serve_stock_bytes"] = service.memory("api")
    model: Model | None = None
    if options.skip_training:
        archive = change_weights(folder / "hub", folder / "changed")
        model = client.models.import_model(
            archive, name="changed", backbone=backbone, classes=CLASSES, delta_format="4bit"
        )
        shutil.rmtree(archive)
    for name, micro in () if options.skip_training else (("micro", options.micro), ("batch", None)):
        if micro is None and (options.skip_batch or not has_memory_for_batch(backbone)):
            continue
        service.reset()
        job = train(client, shots, CLASSES, micro)
        result[f"train_{name}"] = {
            "micro_batch_size": micro,
            "peak_bytes": service.peaks.get("worker.trainer", 0),
            "seconds_per_step": seconds_per_step(job),
            "seconds": _seconds(job),
            "load": round(load_average(), 1),
        }
        assert job.model_id is not None
        model = client.models.get(job.model_id)
        print(f"  {name}: {json.dumps(result[f'train_{name}'])}", flush=True)
    assert model is not None
    result["delta_bytes"] = model.bytes
    expected = served(client, tests, model.id)
    result["serve_adapted_bytes"] = service.memory("api")

    exported = extract(model.export(folder / "open_clip.zip"), folder / "open_clip")
    result["open_clip_difference"] = difference(expected, from_open_clip(exported, tests))
    graphs = extract(model.export(folder / "onnx.zip", format="onnx"), folder / "onnx")
    result["onnx_difference"] = difference(expected, from_onnx(graphs, exported, tests))
    imported = client.models.import_model(folder / "open_clip.zip", name="imported", delta_format="full")
    result["import_difference"] = difference(expected, served(client, tests, imported.id))
    for file in ("open_clip.zip", "onnx.zip"):
        (folder / file).unlink()

    if not options.skip_training:
        extend(client, model, tests, new, options.micro)
        result["extended"] = True
    for kind in ("open_clip", "onnx", "import"):
        assert result[f"{kind}_difference"] < TOLERANCE, (kind, result[f"{kind}_difference"])


def write_backbone(backbone: str, folder: Path) -> Path:
    """Write random weights of the real shapes, in the real layout."""
    source = find_source(backbone)
    assert source.config is not None
    return write_repository(folder, source.config["model_cfg"], source.config["preprocess_cfg"])


def publish(hub: Hub, backbone: str, folder: Path) -> int:
    """Serve random weights under the real names. Return the size of their file."""
    source, repository = find_source(backbone), write_backbone(backbone, folder)
    assert source.config is not None
    hub.add(source.repository, repository)
    tokenizer = source.config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    if tokenizer is not None:
        hub.add(tokenizer, repository)
    return (repository / "open_clip_model.safetensors").stat().st_size


def has_memory_for_batch(backbone: str) -> bool:
    """Return True if the free memory suffices for a training with all images of a batch at a time."""
    size = size_of(backbone.partition("/")[0]) if ":" not in backbone else None
    return size is None or size.training_bytes(BATCH, len(CLASSES)) < psutil.virtual_memory().available


def change_weights(repository: Path, folder: Path) -> Path:
    """Write a copy of a repository whose matrices and filters are changed by 2% of their size, at random."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    tensors = load_file(repository / "open_clip_model.safetensors")
    for tensor in tensors.values():
        if tensor.is_floating_point() and tensor.dim() > 1:
            tensor += 0.02 * tensor.std() * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    shutil.copy(repository / "open_clip_config.json", folder)
    return folder


def make_images(count: int, folder: Path) -> list[Path]:
    """Write images of noise around one colour each."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        colour = generator.integers(0, 160, 3)
        pixels = colour + generator.integers(0, 96, (IMAGE_SIDE, IMAGE_SIDE, 3))
        paths.append(folder / f"{i:04}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


def train(
    client: Client, shots: Sequence[Path], classes: Sequence[str], micro: int | None, **settings: Any
) -> Job:
    by_class = {name: list(shots[i :: len(classes)]) for i, name in enumerate(classes)}
    config = {"epochs": 1, "batch_size": BATCH, "evaluate": "none", "micro_batch_size": micro, **settings}
    if micro is None:
        config["micro_batch_size"] = BATCH  # also where the recipe has smaller ones
    job = client.adapt(by_class, config=config).wait()
    if job.status != "succeeded":
        raise SystemExit(f"The training failed: {job.error}")
    return job


def extend(
    client: Client, model: Model, tests: Sequence[Path], new: Sequence[Path], micro: int, **settings: Any
) -> None:
    """Add a class to the model, and classify with the result."""
    config = {"epochs": 1, "evaluate": "none", "micro_batch_size": micro, **settings}
    extended = model.extend({"class k": list(new)}, config=config).wait()
    assert extended.model_id is not None, extended.error
    answer = client.models.get(extended.model_id)
    assert answer.trained_classes == [*CLASSES, "class k"], answer.trained_classes
    served(client, tests, answer.id)


def seconds_per_step(job: Job) -> float | None:
    """Return the mean time between the first and the last step, or None without progress in between."""
    at = {event.data["step"]: event.at for event in job.events() if event.data.get("step")}
    if not at:  # ended between two heartbeats
        return None
    first, last = min(at), max(at)
    return (at[last] - at[first]).total_seconds() / (last - first) if last > first else None


def extract(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return next(path.parent for path in sorted(folder.rglob("*")) if path.suffix in {".safetensors", ".onnx"})


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", action="append", help="Backbone; repeatable (default: all five).")
    parser.add_argument("--steps", type=int, default=3, help="Training steps per job (default: 3).")
    parser.add_argument(
        "--micro", type=int, default=4, help="Images at a time in micro-batches (default: 4)."
    )
    parser.add_argument("--skip-batch", action="store_true", help="Leave out the job without micro-batches.")
    parser.add_argument("--skip-training", action="store_true", help="Import changed weights instead.")
    parser.add_argument("--only-extend", action="store_true", help="Only train and extend a model.")
    parser.add_argument("--table", action="store_true", help="Print the table of the stored results.")
    return parser


if __name__ == "__main__":
    main()
