"""The demo's images as folders, for the benchmarks and for trying the API by hand.

    python -m demo.export FOLDER      writes FOLDER/train/<class>/… and FOLDER/test/<class>/…

All 12 classes have 6 training images here, so that every half of them can be the trained one.
"""

import sys
from collections import Counter
from pathlib import Path

from core.settings import get_settings
from demo.failure import DemoFailed
from demo.images import ImageSplit
from demo.stamps import SHOTS, split_stamps, stamps_folder


def export(images: ImageSplit, folder: Path, shots: int = SHOTS) -> None:
    """Of the new classes, which the demo only tests, the first `shots` go to train."""
    trained = set(images.trained_classes)
    seen: Counter[str] = Counter()
    splits = [("train", p) for p in images.train] + [("test", p) for p in images.test]
    for position, (split, image) in enumerate(splits):
        if image.class_name not in trained and seen[image.class_name] < shots:
            split = "train"
        seen[image.class_name] += 1
        target = folder / split / image.class_name / f"{position:04d}_{Path(image.name).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.read())


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        export(split_stamps(stamps_folder(get_settings().cache)), Path(sys.argv[1]))
    except DemoFailed as failure:
        sys.exit(f"{failure.what}\n{failure.advice}")


if __name__ == "__main__":
    main()
