"""Sort a folder of photos by names of your own: nothing is trained, no name was known beforehand.

    python examples/sort_photos.py holiday --names beach,mountain,food,"a group of people"

Each photo is copied below holiday-sorted, into a folder that is called after its best name; where no name
leads clearly, into `unsure`. With --model a network that you have adapted sorts them, say holidays@prod.
"""

import argparse
import shutil
from collections import Counter
from pathlib import Path

from clipcite import Client, ImageResult

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", required=True, help="with commas between them")
    parser.add_argument("--model", default="stock")
    parser.add_argument("--lead", type=float, default=0.15, help="of the best name over the next, to be sure")
    given = parser.parse_args()

    names = [name.strip() for name in given.names.split(",")]
    photos = sorted(path for path in given.folder.rglob("*") if path.suffix.lower() in ENDINGS)
    target = given.folder.with_name(f"{given.folder.name}-sorted")
    with Client() as client:  # CLIPCITE_URL, or this machine
        answer = client.classify(photos, names, model=given.model)

    counts: Counter[str] = Counter()
    for photo, result in zip(photos, answer.results, strict=True):
        name = best_name(result, given.lead)
        place = target / name / photo.relative_to(given.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photo, place)
        counts[name] += 1
    print(", ".join(f"{name}: {number}" for name, number in counts.most_common()))
    print(f"They are below {target}.")


def best_name(result: ImageResult, lead: float) -> str:
    if result.error is not None:
        return "unreadable"
    best, *others = result.predictions
    sure = not others or best.probability - others[0].probability >= lead
    return best.class_name if sure else "unsure"


if __name__ == "__main__":
    main()
