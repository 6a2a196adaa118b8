"""The program of `make demo`: `python -m demo`."""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from clipcite import (
    Client,
    ClipCiteError,
    Dataset,
    InvalidImages,
    Prediction,
    Retry,
    UnprocessableEntityError,
)
from clipcite.cli.render.progress import watched
from clipcite.cli.render.tables import table_of
from clipcite.cli.render.verdict import verdict
from clipcite.datasets.dataset import Labelled
from clipcite.datasets.detect import read
from core import sample
from core.settings import get_settings
from demo.service import DemoFailed, Service, running_service

STARTER = "starter"
STARTER_SECONDS, DOWNLOAD_SECONDS = 300, 1800
"""Maximum wait for the starter to be prepared, and for another backbone to be downloaded (seconds)."""
START_SECONDS = 90
PATIENT = Retry(attempts=20)
"""Retries while a model loads, which may take a minute."""
RESULT = Path("demo-result")
SHOWN = 6
"""Number of test images to show."""


@dataclass(frozen=True)
class Answer:
    """Predictions of both models for one test image."""

    image: Labelled
    before: Prediction
    now: Prediction

    @property
    def change(self) -> str:
        """Return `fixed`, `broken` or `same`: whether the prediction is correct before and now."""
        before, now = (each.class_name == self.image.class_name for each in (self.before, self.now))
        return "same" if before == now else "fixed" if now else "broken"


def demo(console: Console) -> None:
    started = time.monotonic()
    try:
        settings = get_settings()
    except ValidationError as error:
        raise DemoFailed(
            f"A CLIPCITE_ variable has an invalid value: {error}", "Correct or unset the variable."
        ) from error
    with tempfile.TemporaryDirectory(prefix="clipcite-demo-") as temporary:
        images = _images(Path(temporary), os.environ.get("DATA"), console)
        trained, new = _classes(images)
        if settings.backbone == STARTER:
            _say(console, "model", "starter, a small stand-in for CLIP that needs no download")
        else:
            _say(console, "model", settings.backbone)
        with (
            running_service() as service,
            Client(service.url, service.key, retry=PATIENT) as client,
            _explained(service),
        ):
            with console.status("  Starting the service and preparing the model …"):
                wait = STARTER_SECONDS if settings.backbone == STARTER else DOWNLOAD_SECONDS
                service.wait_until_ready(seconds=START_SECONDS, backbone_seconds=wait)
            job = client.adapt(images, name="demo")
            with watched(console) as on_change:
                job.wait(on_change=on_change if console.is_terminal else None)
            for warning in job.warnings if os.environ.get("DATA") else ():
                _say(console, "note", warning.detail)
            answers = _answers(client, images, [*trained, *new], job.model_id or "", console)
            page = _save_report(client, job.id)
        _show(console, answers, new)
        if job.metrics is not None:
            console.print(f"\n  {'verdict':<8} {verdict(job.metrics)}", highlight=False, soft_wrap=True)
        if page is not None:
            _say(console, "report", page.absolute().as_uri())
    _say(console, "time", f"{time.monotonic() - started:.0f} s")
    _say(console, "next", ".venv/bin/clipcite serve --open")


def _images(folder: Path, own: str | None, console: Console) -> Dataset:
    """Return the images of DATA, or of the sample.

    Raises:
        DemoFailed: DATA has no usable layout.
    """
    if own:
        folder = Path(own).expanduser()
    else:
        sample.write(folder)
        _say(console, "images", f"{sample.TITLE}. {sample.CREDIT} ({sample.LICENSE})")
    try:
        images = read(folder)
    except InvalidImages as error:
        raise DemoFailed(
            f"The demo cannot use DATA={folder}: {error}", "Put one folder per class into train/ and test/."
        ) from error
    trained, new = _classes(images)
    _say(console, "train", f"{images.count('train')} images of {', '.join(trained)}")
    unseen = f", also of the new class{'es' if len(new) > 1 else ''} {', '.join(new)}" if new else ""
    _say(console, "test", f"{images.count('test')} other images{unseen}")
    return images


def _classes(images: Dataset) -> tuple[list[str], list[str]]:
    """Return the trained classes, and the new classes, which occur in the test images only."""
    trained = list(dict.fromkeys(image.class_name for image in images.images if image.split == "train"))
    names = dict.fromkeys(image.class_name for image in images.images)
    return trained, [name for name in names if name not in trained]


def _answers(
    client: Client, images: Dataset, names: Sequence[str], model: str, console: Console
) -> list[Answer]:
    """Classify the test images with the stock model and with the new model."""
    tests = [image for image in images.images if image.split == "test"]
    if not tests:
        return []
    files = [image.image.read() for image in tests]
    predictions = []
    for reference in ("stock", model):
        with console.status(f"  Classifying {len(tests)} test images …"):
            results = client.classify(files, names, model=reference, top_k=1).results
        for result in results:
            if result.error is not None:
                raise DemoFailed(f"The image {result.file} cannot be used: {result.error.detail}")
        predictions.append([result.predictions[0] for result in results])
    return [Answer(*each) for each in zip(tests, *predictions, strict=True)]


def _save_report(client: Client, job_id: str) -> Path | None:
    """Save the report of the job as a page; None if there is no report."""
    try:
        page = client.jobs.report_page(job_id)
    except ClipCiteError:
        return None
    RESULT.mkdir(exist_ok=True)
    path = RESULT / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _show(console: Console, answers: Sequence[Answer], new: Sequence[str]) -> None:
    """Print how the predictions changed, some images, and the accuracy on each new class."""
    if not answers:
        return
    changes = Counter(answer.change for answer in answers)
    console.print(
        f"\n[bold]{changes['fixed']} of {len(answers)} test images: wrong before, correct now.[/] "
        f"{changes['broken']} of {len(answers)}: correct before, wrong now.\n",
        highlight=False,
        soft_wrap=True,
    )
    table = table_of("  class", "before", "now")
    for answer in _chosen(answers):
        row = [answer.image.class_name]
        for prediction in (answer.before, answer.now):
            sign = "[green]✓[/]" if prediction.class_name == answer.image.class_name else "[red]✗[/]"
            row.append(f"{sign} {escape(prediction.class_name)} {100 * prediction.probability:.0f}%")
        table.add_row(f"  {escape(row[0])}", *row[1:])
    console.print(table)
    for name in new:
        of_class = [answer for answer in answers if answer.image.class_name == name]
        before, now = (
            sum(getattr(answer, when).class_name == name for answer in of_class) for when in ("before", "now")
        )
        numbers = f"{now} of {len(of_class)} correct, {before} before"
        console.print(f"  {escape(name)} (new, never trained): {numbers}", highlight=False)


def _chosen(answers: Sequence[Answer]) -> list[Answer]:
    """Choose images to show, evenly from those whose prediction became correct or wrong."""
    changed = [answer for answer in answers if answer.change != "same"] or list(answers)
    step = max(1, len(changed) / SHOWN)
    return [changed[int(place * step)] for place in range(min(SHOWN, len(changed)))]


@contextmanager
def _explained(service: Service) -> Iterator[None]:
    """Convert client errors to DemoFailed. The end of the log is added unless images are at fault."""
    try:
        yield
    except ClipCiteError as error:
        images_at_fault = isinstance(error, (InvalidImages, UnprocessableEntityError))
        log = "" if images_at_fault else f"Last lines of the service's log:\n{service.log_tail()}"
        raise DemoFailed(str(error), log) from error


def _say(console: Console, name: str, text: str) -> None:
    console.print(f"  [dim]{name:<8}[/] {escape(text)}", highlight=False, soft_wrap=True)


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
