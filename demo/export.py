"""Export of the demo's images as class folders, for benchmarks and for experiments with the API.

    python -m demo.export FOLDER      writes FOLDER/train/<class>/… and FOLDER/test/<class>/…

Each of the 12 classes gets 6 training images, so that any half can serve as the trained classes.
"""

import sys
from collections import Counter
from pathlib import Path

from core.settings import get_settings
from demo.failure import DemoFailed
from demo.images import ImageSplit
from demo.stamps import SHOTS, split_stamps, stamps_folder


def export(images: ImageSplit, folder: Path, shots: int = SHOTS) -> None:
    """Write class folders. The first `shots` images of each new class become training images, too."""
    trained = set(images.trained_classes)
    counts: Counter[str] = Counter()
    splits = [("train", p) for p in images.train] + [("test", p) for p in images.test]
    for position, (split, image) in enumerate(splits):
        if image.class_name not in trained and counts[image.class_name] < shots:
            split = "train"
        counts[image.class_name] += 1
        target = folder / split / image.class_name / f"{position:04d}_{Path(image.name).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.read())


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        export(split_stamps(stamps_folder(get_settings().cache)), Path(sys.argv[1]))
    except DemoFailed as failure:
        sys.exit(f"{failure.reason}\n{failure.advice}")


if __name__ == "__main__":
    main()
