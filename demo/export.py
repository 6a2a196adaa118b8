"""The demo's pictures as folders, for the benchmarks and for trying the API by hand.

    python -m demo.export FOLDER      writes FOLDER/train/<class>/… and FOLDER/test/<class>/…

All 12 classes have 6 training pictures here, so that every half of them can be the trained one.
"""

import sys
from collections import Counter
from pathlib import Path

from core.settings import get_settings
from demo.failure import DemoFailed
from demo.pictures import Pictures
from demo.stamps import SHOTS, split_stamps, stamps_folder


def export(pictures: Pictures, folder: Path, shots: int = SHOTS) -> None:
    """Of the new classes, which the demo only tests, the first `shots` go to train."""
    trained = set(pictures.trained_names)
    seen: Counter[str] = Counter()
    splits = [("train", p) for p in pictures.train] + [("test", p) for p in pictures.test]
    for position, (split, picture) in enumerate(splits):
        if picture.class_name not in trained and seen[picture.class_name] < shots:
            split = "train"
        seen[picture.class_name] += 1
        target = folder / split / picture.class_name / f"{position:04d}_{Path(picture.name).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read())


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        export(split_stamps(stamps_folder(get_settings().cache)), Path(sys.argv[1]))
    except DemoFailed as failure:
        sys.exit(f"{failure.what}\n{failure.advice}")


if __name__ == "__main__":
    main()
