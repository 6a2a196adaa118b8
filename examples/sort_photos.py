"""Sort photos into folders by class names of your choice, without training.

    python examples/sort_photos.py holiday --names beach,mountain,food,"a group of people"

Each photo is copied to the folder of its most likely class below holiday-sorted, or to `unsure` if no class
has a clear lead. --model selects an adapted model such as holidays@prod.
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
    parser.add_argument("--names", required=True, help="class names, separated by commas")
    parser.add_argument("--model", default="stock", help="default: stock")
    parser.add_argument(
        "--lead", type=float, default=0.15, help="minimum lead in probability (default: 0.15)"
    )
    arguments = parser.parse_args()

    names = [name.strip() for name in arguments.names.split(",")]
    folder = arguments.folder.resolve()
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    target = folder.with_name(f"{folder.name}-sorted")
    with Client() as client:  # address: CLIPCITE_URL or http://127.0.0.1:8000
        answer = client.classify(photos, names, model=arguments.model)

    counts: Counter[str] = Counter()
    for photo, result in zip(photos, answer.results, strict=True):
        name = best_name(result, arguments.lead)
        copy = target / name / photo.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photo, copy)
        counts[name] += 1
    print(", ".join(f"{name}: {number}" for name, number in counts.most_common()))
    print(f"Copied to {target}.")


def best_name(result: ImageResult, lead: float) -> str:
    if result.error is not None:
        return "unreadable"
    best, *others = result.predictions
    sure = not others or best.probability - others[0].probability >= lead
    return best.class_name if sure else "unsure"


if __name__ == "__main__":
    main()
