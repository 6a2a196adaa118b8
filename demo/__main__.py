"""What `make demo` runs: `python -m demo`."""

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
from demo.compare import Answers, Result, result_of
from demo.failure import DemoFailed
from demo.images import ImageSplit, own_folder
from demo.report import show
from demo.service import REPOSITORY, Service, running_service
from demo.sheet import write_sheet
from demo.stamps import PACKAGE, split_stamps, stamps_folder

STARTER = "starter"
STAND_IN = (
    "The network is the starter backbone, a small stand-in for CLIP put together from two Python packages: "
    "real and pre-trained, but it knows open vocabulary through ImageNet's 1,000 names only. Its figures "
    "say nothing about CLIP itself."
)
SHEET = Path("demo-result")
SHUFFLED_EPOCHS = 3
SERVICE_SECONDS = 90
PATIENT = Retry(attempts=20)
"""A model may take a minute to load before its first answer."""
DOWNLOAD_SECONDS = 1800
"""A backbone other than the starter may first have to be downloaded."""


def demo(console: Console) -> None:
    started = time.monotonic()
    try:
        settings = get_settings()
    except ValidationError as error:
        raise DemoFailed(
            f"A CLIPCITE_ variable has an unusable value: {error}", "Correct or unset it."
        ) from error
    folder = os.environ.get("DATA") or None
    _first_screen(console, settings.backbone, folder)

    _step(console, "ImageSplit")
    images = own_folder(Path(folder).expanduser()) if folder else split_stamps(stamps_folder(settings.cache))
    trained, new = images.trained_classes, images.new_classes
    _say(console, f"{len(images.train)} to train on, of {len(trained)} classes: {_some(trained)}")
    _say(console, f"{len(images.test)} held out to test" + (f", also of {_some(new)}" if new else ""))

    _step(console, "Service")
    if settings.backbone == STARTER:
        _build_starter(console, settings)
    with running_service() as service, Client(service.url, retry=PATIENT) as client, _explained(service):
        with console.status("  Starting the service …"):
            service.wait_until_ready(
                seconds=SERVICE_SECONDS,
                backbone_seconds=SERVICE_SECONDS if settings.backbone == STARTER else DOWNLOAD_SECONDS,
            )
        _say(console, f"clipcite serve answers at {service.url} (its API: {service.url}/docs)")

        _step(
            console,
            f"Adapting to {len(trained)} classes, and classifying with all {len(images.names)} names",
        )
        stock = _classify(console, client, images, "stock")
        result = _adapt(console, client, images, stock, "demo", {})
        console.print()
        show(console, result, "Held-out images answered rightly")
        sheet = write_sheet(SHEET, result, _notes(settings.backbone, folder))
        console.print(f"Every image whose answer changed: {sheet.absolute().as_uri()}", soft_wrap=True)

        _step(
            console,
            f"The same with shuffled training labels ({SHUFFLED_EPOCHS} epochs): is the measure honest?",
        )
        shuffled = images.with_shuffled_labels()
        control = _adapt(console, client, shuffled, stock, "demo, shuffled", {"epochs": SHUFFLED_EPOCHS})
        console.print()
        show(console, control, "After training on shuffled labels")
        console.print(_about_control(control), highlight=False)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s; nothing is left running.", highlight=False)


def _adapt(
    console: Console, client: Client, images: ImageSplit, stock: Answers, name: str, config: dict[str, Any]
) -> Result:
    """Train over HTTP, classify the held-out images over HTTP, compare."""
    started = time.monotonic()
    with watched(console) as tell:
        job = client.adapt(images.dataset(), name=name, config=config).wait(on_change=tell)
    assert job.model_id is not None  # it has succeeded
    for warning in job.warnings:
        _say(console, f"note: {warning.detail}")
    trained = time.monotonic() - started
    adapted = _classify(console, client, images, job.model_id)
    _say(console, f"{job.model_id} after {trained:.0f} s, α = {job.config['alpha']}")
    return result_of(images, stock, adapted, {} if job.metrics is None else job.metrics.raw)


def _classify(console: Console, client: Client, images: ImageSplit, model: str) -> Answers:
    """All names for each test image."""
    names = images.names
    with console.status(f"  Classifying {len(images.test)} images with {model} …"):
        answer = client.classify([image.data for image in images.test], names, model=model)
    offset = {one.name: one.offset for one in answer.class_names}
    scores = np.zeros((len(images.test), len(names)), np.float32)
    probabilities = np.zeros_like(scores)
    for row, (image, result) in enumerate(zip(images.test, answer.results, strict=True)):
        if result.error is not None:
            raise DemoFailed(
                f"The image {image.name} of the class {image.class_name} can't be used: "
                f"{result.error.detail}",
                "Replace or remove it.",
            )
        for one in result.predictions:
            column = names.index(one.class_name)
            scores[row, column] = one.similarity - offset[one.class_name]
            probabilities[row, column] = one.probability
    return Answers(scores, probabilities)


@contextmanager
def _explained(service: Service) -> Iterator[None]:
    """The client's errors with the end of the service's log, unless they are about the images."""
    try:
        yield
    except ClipCiteError as error:
        theirs = isinstance(error, (InvalidImages, UnprocessableEntityError))
        log = "" if theirs else f"The end of the service's log:\n{service.last_words()}"
        raise DemoFailed(str(error), log) from error


def _about_control(control: Result) -> str:
    if control.verdict == "better":
        return (
            "[yellow]Nothing true could be learned from shuffled labels, so this gain is chance: a 95 % "
            "interval misses now and then. Trust the verdict above less.[/]"
        )
    if control.verdict == "worse":
        return "Shuffled labels teach wrong things, and the measure says so."
    return "Nothing could be learned from shuffled labels, and the measure says so."


def _build_starter(console: Console, settings: Settings) -> None:
    """In a process of its own, which takes its memory with it."""
    command = [sys.executable, "-m", "core.clip.models.starter", str(settings.cache.absolute())]
    with console.status("  Putting the starter backbone together (once, half a minute) …"):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DemoFailed(
            f"The starter backbone can't be made: {last}",
            "Its files come with `pip install -e '.[server,starter]'` (`make install`); CLIPCITE_CACHE names "
            "the folder where it is kept.",
        )
    _say(console, f"starter backbone: {done.stdout.strip()}")


def _first_screen(console: Console, backbone: str, folder: str | None) -> None:
    shown = "images of your folder" if folder else "six images each of six kinds of things"
    lines = [
        f"A classifier learns from {shown}, over HTTP, on this machine, and is measured on images it has "
        "not seen. Ctrl-C stops everything.",
    ]
    if backbone == STARTER:
        lines.append(STAND_IN)
        lines.append(
            "With CLIP itself (600 MB from a model hub, better with a GPU): "
            "CLIPCITE_BACKBONE=ViT-B-16/openai make demo"
        )
    else:
        lines.append(f"The network is {backbone}. It may have to be downloaded first.")
    if not folder:
        lines.append("With images of your own: make demo DATA=folder (train/<class>/…, test/<class>/…)")
    console.print(Panel(escape("\n\n".join(lines)), title="CLIP-CITE demo", title_align="left"))


def _notes(backbone: str, folder: str | None) -> list[str]:
    notes = [STAND_IN if backbone == STARTER else f"The network is {backbone}."]
    if not folder:
        notes.append(
            f"ImageSplit: stamps of Tux Paint, Debian package {PACKAGE}, under free licences "
            f"(/usr/share/doc/{PACKAGE}/copyright in the package)."
        )
    return notes


def _step(console: Console, title: str) -> None:
    console.print(f"\n[bold]{escape(title)}[/]", highlight=False)


def _say(console: Console, text: str) -> None:
    console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def main() -> int:
    # As Ctrl-C does: through the `with` blocks, which end the service.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    console = Console()
    try:
        demo(console)
    except DemoFailed as failure:
        console.print(
            f"\n[bold red]The demo stops:[/] {escape(failure.what)}", highlight=False, soft_wrap=True
        )
        if failure.advice:
            console.print(escape(failure.advice), highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
