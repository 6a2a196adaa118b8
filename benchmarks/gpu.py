"""Everything that only an owner of a GPU can measure, in one command of about ten minutes.

    python -m benchmarks.gpu

- training of ViT-B/16 and ViT-L/14 with the product's loop: images/s, memory, and how busy the device was
- classification with 1, 8 and 64 clients through the service
- reduced precisions against fp32: changed answers and speed, with a model trained on drawn parts

ViT weights are random: they cost the same time as trained ones. No file is downloaded but the starter's
packages, and no image leaves the machine. The results are in gpu.md and gpu.json below --out; send them back
with the issue form *Result on another machine*. Without a GPU the same figures come from the CPU, in minutes
with `--small`.
"""

import argparse
import io
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from PIL import Image
from rich.console import Console

from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.machine import commit, processor
from benchmarks.running_api import running_api
from benchmarks.serving import precision, throughput
from benchmarks.serving.stored import make_backbone, publish_many, store
from benchmarks.training.loops import Job, Measured, in_fresh_trainer, precisions, run_product
from clipcite.types.images import Image as LabelledImage
from core import sample
from core.clip.config import STARTER, resolve_config
from core.clip.models.backbone import load_backbone
from core.settings import get_settings

TRAINED, CLIENTS, SERVED = ("ViT-B-16", "ViT-L-14"), (1, 8, 64), "ViT-B-16"
SMALL_TRAINED, SMALL_CLIENTS, SMALL_SERVED = ("ViT-B-32",), (1, 8), "ViT-B-32"
STEPS, SMALL_STEPS = 20, 2
CLASSES = (*sample.TRAINED, *sample.NEW)
SHOTS, TESTS = 8, 15
"""Images of the sample per class for training and for the test. Each is turned by four right angles."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="smaller networks and fewer steps, for a CPU")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    console = Console(width=160)
    with tempfile.TemporaryDirectory(prefix="clipcite-gpu-") as name:
        folder = Path(name)
        data = write_parts(folder / "parts")
        facts = machine(options.device)
        console.print(facts.markdown(), markup=False)
        trained = [
            train(architecture, data, options, folder)
            for architecture in (SMALL_TRAINED if options.small else TRAINED)
        ]
        tables = [facts, training_table(trained), *serve(data, options, folder), reduced(data, options)]
    write(tables, "gpu", options.out, console)


def write_parts(folder: Path) -> DataSet:
    """Write the images of the sample: `train/CLASS/` and `test/CLASS/`."""
    for name in CLASSES:
        drawn = [data for path, data in sample.images().items() if path.split("/")[1] == name]
        for number, data in enumerate(drawn[: SHOTS + TESTS]):
            to = folder / ("train" if number < SHOTS else "test") / name
            to.mkdir(parents=True, exist_ok=True)
            for angle in (0, 90, 180, 270):
                Image.open(io.BytesIO(data)).rotate(angle).save(to / f"{number:03}-{angle}.jpg", quality=95)
    return load(folder)


def machine(device: str) -> Table:
    rows = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else processor(),
        "processor": f"{processor()}, {psutil.cpu_count()} cores",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "driver": nvidia_smi("driver_version") or "none",
        "commit": commit() or "none",
    }
    return Table("Machine", ["", ""], [[key, value] for key, value in rows.items()])


def nvidia_smi(field: str) -> str:
    """Return a field of the first GPU, or "" without the program."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0].strip() if lines else ""


@contextmanager
def watched(device: str) -> Iterator[list[float]]:
    """Collect the share of time in which the device was busy, twice a second.

    Of a GPU, that is the share in which a kernel ran; of a CPU, the share of its cores.
    """
    shares: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        psutil.cpu_percent()
        while not stop.wait(0.5):
            busy = nvidia_smi("utilization.gpu") if device.startswith("cuda") else psutil.cpu_percent()
            if busy != "":
                shares.append(float(busy) / 100)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield shares
    finally:
        stop.set()
        thread.join()


def train(
    architecture: str, data: DataSet, options: argparse.Namespace, folder: Path
) -> tuple[str, dict[str, tuple[Measured, list[float]]]]:
    """Train a network in fp32 and in the precision of `auto`, each in a fresh process."""
    backbone = make_backbone(folder / architecture, architecture)
    shots = tuple(LabelledImage(example.path, data.class_names[example.label]) for example in data.train)
    found: dict[str, tuple[Measured, list[float]]] = {}
    for dtype in precisions(options.device):
        config = resolve_config(backbone=backbone, precision=dtype)
        job = Job(backbone, config, shots, options.device, None, get_settings().cache)
        with watched(options.device) as shares:
            found[dtype] = (
                in_fresh_trainer(run_product, job.cut(SMALL_STEPS if options.small else STEPS)),
                shares,
            )
    return architecture, found


def training_table(trained: Sequence[tuple[str, dict[str, tuple[Measured, list[float]]]]]) -> Table:
    table = Table(
        "Training",
        ["network, precision", "images/s", "s per step", "peak, GB", "busy"],
        note="The product's loop after its first step, with batches and micro-batches of the recipe. Peak: "
        "memory of the GPU, or of the process on a CPU. Busy: median share of time in which the device "
        "computed, from the start of the process on.",
    )
    for architecture, by_precision in trained:
        for dtype, (m, shares) in by_precision.items():
            busy = f"{sorted(shares)[len(shares) // 2]:.0%}" if shares else "–"
            row = [f"{m.images_per_second:.1f}", f"{m.seconds_a_step:.2f}", f"{m.peak_bytes / 1e9:.2f}", busy]
            table.rows.append([f"{architecture}, {dtype}", *row])
    return table


def serve(data: DataSet, options: argparse.Namespace, folder: Path) -> list[Table]:
    """Measure the service with many clients against the bare network."""
    architecture = SMALL_SERVED if options.small else SERVED
    name = make_backbone(folder / "served", architecture)
    backbone = load_backbone(name, cache=get_settings().cache, device=options.device)
    with store(folder / "data") as (database, blobs):
        (model,) = publish_many(database, blobs, backbone, ["a"], list(CLASSES[:2]))
    settings = {
        "CLIPCITE_DATA": str(folder / "data"),
        "CLIPCITE_CACHE": str(get_settings().cache),
        "CLIPCITE_DEVICE": options.device,
    }
    with running_api(settings) as api:
        measured = throughput.measure(
            api,
            backbone,
            model,
            [example.path for example in data.test[:: len(data.test) // throughput.IMAGES]][
                : throughput.IMAGES
            ],
            rounds=1 if options.small else 3,
            seconds=1 if options.small else 5,
            clients=SMALL_CLIENTS if options.small else CLIENTS,
            names=(10,),
        )
    return throughput.tables(measured, f"{architecture}, {options.device}")


def reduced(data: DataSet, options: argparse.Namespace) -> Table:
    """Compare the precisions of the service with fp32, by the starter trained on the parts."""
    size = resolve_config(backbone=STARTER).image_size
    backbone = load_backbone(STARTER, cache=get_settings().cache, image_size=size, device=options.device)
    task = precision.make_task(backbone, data, 1 if options.small else None)
    return precision.table(precision.measure(backbone, task), f"Precisions of the starter, {options.device}")


if __name__ == "__main__":
    main()
