"""The program of `make demo`: `python -m demo`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from clipcite import Client, ClipCiteError, InvalidImages, Retry, UnprocessableEntityError
from clipcite.cli.render.progress import watched
from core.settings import Settings, get_settings
from demo.compare import ModelScores, Result, result_of
from demo.failure import DemoFailed
from demo.images import ImageSplit, own_folder
from demo.report import show
from demo.service import REPOSITORY, Service, running_service
from demo.sheet import write_sheet
from demo.stamps import PACKAGE, split_stamps, stamps_folder

STARTER = "starter"
STAND_IN = (
    "The backbone is the starter, a small substitute for CLIP built from two Python packages. It is "
    "pre-trained, but its vocabulary comes from the 1,000 class names of ImageNet only. Its accuracies say "
    "nothing about CLIP itself."
)
SHEET = Path("demo-result")
SHUFFLED_EPOCHS = 3
SERVICE_SECONDS = 90
PATIENT = Retry(attempts=20)
"""Retries while a model loads, which may take a minute."""
DOWNLOAD_SECONDS = 1800
"""Maximum wait for the download of another backbone (seconds)."""


def demo(console: Console) -> None:
    started = time.monotonic()
    try:
        settings = get_settings()
    except ValidationError as error:
        raise DemoFailed(
            f"A CLIPCITE_ variable has an invalid value: {error}", "Correct or unset the variable."
        ) from error
    folder = os.environ.get("DATA") or None
    _first_screen(console, settings.backbone, folder)

    _step(console, "Images")
    images = own_folder(Path(folder).expanduser()) if folder else split_stamps(stamps_folder(settings.cache))
    trained, new = images.trained_classes, images.new_classes
    _say(console, f"{len(images.train)} training images of {len(trained)} classes: {_some(trained)}")
    _say(
        console,
        f"{len(images.test)} test images" + (f", also of the new classes {_some(new)}" if new else ""),
    )

    _step(console, "Service")
    if settings.backbone == STARTER:
        _build_starter(console, settings)
    with running_service() as service, Client(service.url, retry=PATIENT) as client, _explained(service):
        with console.status("  Starting the service …"):
            service.wait_until_ready(
                seconds=SERVICE_SECONDS,
                backbone_seconds=SERVICE_SECONDS if settings.backbone == STARTER else DOWNLOAD_SECONDS,
            )
        _say(console, f"clipcite serve is ready at {service.url} (API: {service.url}/docs)")

        _step(
            console,
            f"Training on {len(trained)} classes, classification with all {len(images.names)} classes",
        )
        stock = _classify(console, client, images, "stock")
        result = _adapt(console, client, images, stock, "demo", {})
        console.print()
        show(console, result, "Accuracy on held-out images")
        sheet = write_sheet(SHEET, result, _notes(settings.backbone, folder))
        console.print(f"Images with a changed prediction: {sheet.absolute().as_uri()}", soft_wrap=True)

        _step(
            console,
            f"Control: the same with shuffled training labels ({SHUFFLED_EPOCHS} epochs)",
        )
        shuffled = images.with_shuffled_labels()
        control = _adapt(console, client, shuffled, stock, "demo, shuffled", {"epochs": SHUFFLED_EPOCHS})
        console.print()
        show(console, control, "Accuracy after training on shuffled labels")
        console.print(_about_control(control), highlight=False)
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s. All processes have stopped.", highlight=False
    )


def _adapt(
    console: Console,
    client: Client,
    images: ImageSplit,
    stock: ModelScores,
    name: str,
    config: dict[str, Any],
) -> Result:
    """Train and classify the held-out images over HTTP, then compare with the stock model."""
    started = time.monotonic()
    with watched(console) as on_change:
        job = client.adapt(images.dataset(), name=name, config=config).wait(on_change=on_change)
    assert job.model_id is not None  # set after success
    for warning in job.warnings:
        _say(console, f"note: {warning.detail}")
    trained = time.monotonic() - started
    adapted = _classify(console, client, images, job.model_id)
    _say(console, f"{job.model_id} after {trained:.0f} s, α = {job.config['alpha']}")
    return result_of(images, stock, adapted, {} if job.metrics is None else job.metrics.raw)


def _classify(console: Console, client: Client, images: ImageSplit, model: str) -> ModelScores:
    """Classify the test images with all class names."""
    names = images.names
    with console.status(f"  Classifying {len(images.test)} images with {model} …"):
        answer = client.classify([image.data for image in images.test], names, model=model)
    offset = {each.name: each.offset for each in answer.class_names}
    scores = np.zeros((len(images.test), len(names)), np.float32)
    probabilities = np.zeros_like(scores)
    for row, (image, result) in enumerate(zip(images.test, answer.results, strict=True)):
        if result.error is not None:
            raise DemoFailed(
                f"The image {image.name} of the class {image.class_name} cannot be used: "
                f"{result.error.detail}",
                "Replace or remove the image.",
            )
        for prediction in result.predictions:
            column = names.index(prediction.class_name)
            scores[row, column] = prediction.similarity - offset[prediction.class_name]
            probabilities[row, column] = prediction.probability
    return ModelScores(scores, probabilities)


@contextmanager
def _explained(service: Service) -> Iterator[None]:
    """Convert client errors to DemoFailed. The end of the log is added unless images are at fault."""
    try:
        yield
    except ClipCiteError as error:
        images_at_fault = isinstance(error, (InvalidImages, UnprocessableEntityError))
        log = "" if images_at_fault else f"Last lines of the service's log:\n{service.log_tail()}"
        raise DemoFailed(str(error), log) from error


def _about_control(control: Result) -> str:
    if control.verdict == "better":
        return (
            "[yellow]Shuffled labels carry no information, so this gain is due to chance: one 95% interval "
            "in 20 misses. Treat the verdict above with caution.[/]"
        )
    if control.verdict == "worse":
        return "As expected: training on shuffled labels makes the model worse."
    return "As expected: shuffled labels bring no gain."


def _build_starter(console: Console, settings: Settings) -> None:
    """Build the starter backbone in a subprocess, so that its memory is freed."""
    command = [sys.executable, "-m", "core.clip.models.starter", str(settings.cache.absolute())]
    with console.status("  Building the starter backbone (once, about 30 s) …"):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DemoFailed(
            f"The starter backbone cannot be built: {last}",
            "Install its packages with `make install`, or set CLIPCITE_CACHE to a writable folder.",
        )
    _say(console, f"starter backbone: {done.stdout.strip()}")


def _first_screen(console: Console, backbone: str, folder: str | None) -> None:
    source = "the images of your folder" if folder else "six images each of six classes"
    lines = [
        f"This demo trains a classifier on {source}, over HTTP, on this machine. It is evaluated on "
        "held-out images. Ctrl-C stops the demo.",
    ]
    if backbone == STARTER:
        lines.append(STAND_IN)
        lines.append(
            "With CLIP itself (600 MB from a model hub, GPU recommended): "
            "CLIPCITE_BACKBONE=ViT-B-16/openai make demo"
        )
    else:
        lines.append(f"The backbone is {backbone}, which may be downloaded first.")
    if not folder:
        lines.append("With your own images: make demo DATA=folder (train/<class>/…, test/<class>/…)")
    console.print(Panel(escape("\n\n".join(lines)), title="CLIP-CITE demo", title_align="left"))


def _notes(backbone: str, folder: str | None) -> list[str]:
    notes = [STAND_IN if backbone == STARTER else f"The backbone is {backbone}."]
    if not folder:
        notes.append(
            f"Images: stamps of Tux Paint, Debian package {PACKAGE}, under free licences "
            f"(/usr/share/doc/{PACKAGE}/copyright in the package)."
        )
    return notes


def _step(console: Console, title: str) -> None:
    console.print(f"\n[bold]{escape(title)}[/]", highlight=False)


def _say(console: Console, text: str) -> None:
    console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def main() -> int:
    # Exit through the `with` blocks, which stop the service, as Ctrl-C does.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    console = Console()
    try:
        demo(console)
    except DemoFailed as failure:
        console.print(
            f"\n[bold red]Demo failed:[/] {escape(failure.reason)}", highlight=False, soft_wrap=True
        )
        if failure.advice:
            console.print(escape(failure.advice), highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. All processes have stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
