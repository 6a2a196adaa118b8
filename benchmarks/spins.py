"""How long waiting OpenMP threads may spin: trainings and exports, alone and beside other work.

    python -m benchmarks.spins --data FOLDER
    python -m benchmarks.spins --data FOLDER --work export
    python -m benchmarks.spins --data FOLDER --rows "spin 1,000" --beside nothing "4 clients" --images 4

FOLDER holds `train/CLASS/` and `test/CLASS/`. Each training runs the whole pipeline (with its report) in a
process of its own, with the variables of one row. `--backbone ViT-B-32` trains an architecture of open_clip
with random weights instead of the starter. Each export writes the ONNX graphs of the
starter. Beside it runs nothing, a second one, a service with one or four clients, which has its own
variables, a browser with a moving picture, or a program that keeps one core busy. Rows alternate within a
round. The output is spins-WORK.md and spins-WORK.json below --out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, takewhile
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from rich.console import Console
from safetensors.torch import save_file

from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.running_api import running_api
from benchmarks.serving.clients import load as run_clients
from benchmarks.serving.clients import raw_request
from benchmarks.serving.stored import make_backbone
from clipcite.types.images import Image
from core.clip.config import STARTER, resolve_config
from core.clip.export.formats.classes import export_format
from core.clip.export.model_card import ModelInfo
from core.clip.models.backbone import load_backbone, tower_parameters
from core.clip.pipeline import adapt
from core.settings import get_settings
from core.store.db import migrate
from tests.api.web.browser import launch_browser
from worker.trainer.process import trainer_environment

ROWS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "spin 100,000": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "100000"},
    "spin 10,000": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "10000"},
    "spin 1,000": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000"},
    "spin 100": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "100"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
BESIDE = ("nothing", "a second one", "1 client", "4 clients", "a browser", "a busy core")
MOVING = """<canvas id=c width=800 height=600></canvas><script>
const draw = c.getContext("2d");
(function frame(time) {
  for (let i = 0; i < 300; i++) {
    draw.fillStyle = `hsl(${(i + time / 9) % 360} 80% 50%)`;
    draw.fillRect(400 + 390 * Math.cos(time / 900 + i), 300 + 290 * Math.sin(time / 700 + 2 * i), 20, 20);
  }
  requestAnimationFrame(frame);
})(0);
</script>"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("--images", type=int, default=8, help="training images per class (default 8)")
    parser.add_argument("--backbone", default=STARTER, help="starter, or an open_clip architecture")
    parser.add_argument("--epochs", type=int, help="epochs of a training (default: the recipe's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--beside", nargs="+", choices=BESIDE, default=list(BESIDE))
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    parser.add_argument(
        "--work", choices=WORK, default="training", help="what is measured (default training)"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            work = WORK[options.work](options, Path(folder))
            print("ready", flush=True)
            sys.stdin.readline()
            started = time.monotonic()
            work()
            print(time.monotonic() - started, flush=True)
        return
    console = Console(width=160)
    seconds: dict[tuple[str, str], list[float]] = {}
    answers: dict[tuple[str, str], list[float]] = {}
    for beside in options.beside:
        with other_work(beside, options) as rate:
            for _ in range(options.rounds):
                for row in options.rows:
                    with measured(options, row) as job, ExitStack() as stack:
                        second = (
                            stack.enter_context(measured(options, row)) if beside == "a second one" else None
                        )
                        for process in filter(None, (second, job)):
                            process.start()
                        since = time.monotonic(), rate()
                        seconds.setdefault((row, beside), []).append(job.seconds())
                        passed = time.monotonic() - since[0]
                        answers.setdefault((row, beside), []).append((rate() - since[1]) / passed)
                    console.print(f"{beside}, {row}: {seconds[row, beside][-1]:.1f} s", highlight=False)
    head = ["", *(f"beside {b}" if b != "nothing" else "alone" for b in options.beside)]
    cells = [
        [
            row,
            *(
                f"{median(seconds[row, b]):.1f}"
                + (f" ({median(answers[row, b]):.1f}/s)" if "client" in b else "")
                for b in options.beside
            ),
        ]
        for row in options.rows
    ]
    what = {"training": "a training with its report", "export": "an export of ONNX graphs"}[options.work]
    title = f"Seconds of {what}, median; in brackets the answers per second of the service"
    write([Table(title, head, cells)], f"spins-{options.work}", options.out, console)


class Measured:
    """A process that has read its imports and the backbone, and waits for `start`."""

    def __init__(self, options: argparse.Namespace, row: str) -> None:
        command = [sys.executable, "-m", "benchmarks.spins", "--one", "--work", options.work]
        command += ["--data", str(options.data), "--images", str(options.images)]
        command += ["--backbone", options.backbone]
        command += [] if options.epochs is None else ["--epochs", str(options.epochs)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**trainer_environment(without_openmp()), **ROWS[row], "PYTHONPATH": str(Path.cwd())},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.stdout.readline()

    def start(self) -> None:
        self.stdin.write("\n")
        self.stdin.flush()

    def seconds(self) -> float:
        return float(self.stdout.readline())


def without_openmp() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}


@contextmanager
def measured(options: argparse.Namespace, row: str) -> Iterator[Measured]:
    job = Measured(options, row)
    try:
        yield job
    finally:
        job.process.wait()


def training(options: argparse.Namespace, folder: Path) -> Callable[[], object]:
    """Return a job with its report."""
    source = load(options.data)
    classes = list(range(len(source.class_names)))
    shots = [
        Image(example.path, source.class_names[example.label])
        for example in draw_shots(source.train, classes, options.images, 0)
    ]
    is_starter = options.backbone == STARTER
    name = STARTER if is_starter else make_backbone(folder / "backbone", options.backbone)
    backbone = load_backbone(name, cache=get_settings().cache, device="cpu")
    given = {} if options.epochs is None else {"epochs": options.epochs}
    config = resolve_config(backbone=name, image_size=backbone.image_size, images=len(shots), **given)
    return partial(adapt, backbone, shots, config)


def export(options: argparse.Namespace, folder: Path) -> Callable[[], object]:
    """Return an export of the pre-trained starter."""
    backbone = load_backbone(STARTER, cache=get_settings().cache, device="cpu")
    save_file({**tower_parameters(backbone.model)}, folder / "parameters.safetensors")
    info = ModelInfo(
        "stock", None, STARTER, backbone.sha256, None, 0, [], ["a photo of a {}."], {}, "full", None
    )
    return partial(
        export_format, "onnx", folder, folder / "parameters.safetensors", get_settings().cache, info
    )


WORK = {"training": training, "export": export}


@contextmanager
def other_work(beside: str, options: argparse.Namespace) -> Iterator["Counter"]:
    """Run the work beside the trainings. Yields a function that returns the number of answers so far."""
    counter = Counter()
    with ExitStack() as stack:
        if beside == "a busy core":
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        elif beside == "a browser":
            browser = launch_browser(stack.enter_context(sync_playwright()))
            stack.callback(browser.close)
            browser.new_page().set_content(MOVING)
        elif beside.endswith(("client", "clients")):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            migrate.upgrade(f"sqlite:///{folder}/clipcite.db")
            settings = {"CLIPCITE_DATA": folder, "CLIPCITE_CACHE": str(get_settings().cache)}
            api = stack.enter_context(running_api(settings))
            source = load(options.data)
            names = json.dumps(source.class_names)
            requests = [
                raw_request(api.url, {"class_names": names}, [example.path.read_bytes()])
                for example in source.test[:50]
            ]
            stop = threading.Event()
            endless = takewhile(lambda _: not stop.is_set(), cycle(enumerate(requests)))
            clients = threading.Thread(
                target=run_clients,
                args=(api.url, endless),
                kwargs={"clients": int(beside[0]), "on_answer": counter.add},
            )
            clients.start()
            stack.callback(clients.join)
            stack.callback(stop.set)
        yield counter


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int, status: int, body: bytes) -> None:
        self.count += status == 200

    def __call__(self) -> int:
        return self.count


if __name__ == "__main__":
    main()
