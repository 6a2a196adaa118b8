"""`python -m demo.story`: whether the sample convinces, in ten trainings by the service itself.

A training convinces if the model is more accurate than the preview on all test images, if no right answer on
the first images of the page becomes wrong once the new name is asked, too, and if it recognises most images
of the new class that the page shows. The exit status is 1 unless nine of ten trainings convince.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clipcite import Client
from clipcite.cli.render.tables import table_of
from core import sample
from demo.service import running_service

SEEDS, CONVINCING = 10, 9
SHOWN, NEW_SHOWN, NEW_RIGHT = 6, 4, 3
"""Number of images in the view Try and in the last step of a job, and of right ones among the latter."""
Image = tuple[str, bytes]


def main() -> int:
    console, convincing = Console(), 0
    table = table_of("seed", "preview", "trained", "right", "with the name", "of it")
    names = (*sample.TRAINED, *sample.NEW)
    every = [(path.split("/")[1], data) for path, data in sample.images().items() if path.startswith("test/")]
    turns = sorted(every, key=lambda image: _turn(every, image))  # one of each class, then the second of each
    shown = [image for image in turns if image[0] in sample.TRAINED][:SHOWN]
    new = [image for image in every if image[0] in sample.NEW][:NEW_SHOWN]
    with (
        tempfile.TemporaryDirectory(prefix="clipcite-story-") as folder,
        running_service() as service,
        Client(service.url, service.key) as client,
    ):
        archive = Path(folder) / "parts.zip"
        archive.write_bytes(sample.archive())
        service.wait_until_ready(seconds=90, backbone_seconds=300)
        for seed in range(SEEDS):
            started = client.adapt(archive, config={"seed": seed})
            preview = _right(client, started.id, every, names)
            job = started.wait()
            trained = _right(client, job.model_id, every, names)
            alone, mixed = (_right(client, job.model_id, shown, among) for among in (sample.TRAINED, names))
            found = sum(_right(client, job.model_id, new, names))
            kept = all(after for before, after in zip(alone, mixed, strict=True) if before)
            good = sum(trained) > sum(preview) and kept and found >= NEW_RIGHT
            convincing += good
            accuracies = (f"{sum(answers) / len(every):.1%}" for answers in (preview, trained))
            right = (f"{sum(alone)} of {SHOWN}", f"{sum(mixed)} of {SHOWN}", f"{found} of {NEW_SHOWN}")
            table.add_row(f"{seed}{'' if good else ' ✗'}", *accuracies, *right)
    console.print(table)
    console.print(f"{convincing} of {SEEDS} trainings convince.", highlight=False)
    return 0 if convincing >= CONVINCING else 1


def _turn(tests: Sequence[Image], image: Image) -> int:
    """Return the place of an image among those of its class."""
    return [other for other in tests if other[0] == image[0]].index(image)


def _right(client: Client, model: str, images: Sequence[Image], names: Sequence[str]) -> list[bool]:
    """Return whether the model's best class of each image, among the names, is the true one."""
    results = client.classify([content for _, content in images], names, model=model, top_k=1).results
    return [result.best.class_name == truth for (truth, _), result in zip(images, results, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
