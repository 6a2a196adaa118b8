"""Stamps of the drawing program Tux Paint, from a Debian package, as class folders.

    python -m benchmarks.data.stamps FOLDER      writes FOLDER/train/<class>/… and FOLDER/test/<class>/…

Each of the 12 classes gets 6 training images, so that any half can serve as the trained classes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.data.dataset import BadDataSet
from core.settings import get_settings

PACKAGE = "tuxpaint-stamps-default"
STAMPS = Path("usr/share/tuxpaint/stamps")
TRAINED_CLASSES = {
    "bird": "animals/birds",
    "fish": "animals/fish",
    "flower": "plants/flowers",
    "insect": "animals/insects",
    "fruit": "food/fruit",
    "vegetable": "food/vegetables",
}
NEW_CLASSES = {
    "hat": "clothes/hats",
    "mammal": "animals/mammals",
    "house": "town/houses",
    "musical instrument": "hobbies/music",
    "tool": "household/tools",
    "electronic device": "household/electronics",
}
SHOTS = 6
MAX_SIDE = 512


def stamps_folder(cache: Path) -> Path:
    """Return the folder of the stamps: as installed, or unpacked below `cache`, which needs no root.

    Raises:
        BadDataSet: apt cannot download the package.
    """
    installed = Path("/") / STAMPS
    if (installed / TRAINED_CLASSES["bird"]).is_dir():
        return installed
    folder = cache / PACKAGE
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{PACKAGE}-") as temporary:
        unpacked = Path(temporary) / "unpacked"
        _run(["dpkg", "-x", str(_download(Path(temporary))), str(unpacked)])
        if not (unpacked / STAMPS).is_dir():
            raise BadDataSet(f"The package {PACKAGE} has no folder {STAMPS}.")
        (unpacked / STAMPS).rename(folder)
    return folder


def _download(folder: Path) -> Path:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise BadDataSet(
                f"This machine has no `{program}`, which downloads the Debian package {PACKAGE}."
            )
    _run(["apt-get", "download", PACKAGE], folder)
    packages = list(folder.glob("*.deb"))
    if not packages:
        raise BadDataSet(f"apt-get did not download {PACKAGE}.")
    return packages[0]


def _run(command: list[str], folder: Path | None = None) -> None:
    environment = {**os.environ, "LC_ALL": "C"}  # for the messages below
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode == 0:
        return
    errors = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("E: ")]
    message = " ".join(errors)[:500] or f"exit status {done.returncode}"
    advice = "Run `sudo apt-get update` to fetch the package lists of apt, then try again."
    if "Unable to locate" in message or "Can't find a source" in message or "No packages found" in message:
        reason = f"apt does not know the package {PACKAGE}, since its package lists are missing ({message})"
        advice += " On Ubuntu the package is in `universe`: `sudo add-apt-repository universe`."
    elif "Failed to fetch" in message:
        reason = f"apt could not download {PACKAGE} ({message})"
        advice = f"Check the network and the proxy. If the package lists are outdated: {advice}"
    else:
        reason = f"`{' '.join(command)}` failed ({message})"
    raise BadDataSet(f"{reason}. {advice}")


def export(stamps: Path, folder: Path) -> None:
    """Write class folders: the first SHOTS images of each class for training, the others for the test.

    Raises:
        BadDataSet: a class has too few images.
    """
    classes = {**TRAINED_CLASSES, **NEW_CLASSES}
    images = {name: _of_class(name, stamps / below) for name, below in classes.items()}
    # The number in a file name counts the shots of the trained classes, then all other images.
    order = [(name, file) for name in TRAINED_CLASSES for file in images[name][:SHOTS]]
    for name in classes:
        order += [(name, file) for file in images[name][SHOTS if name in TRAINED_CLASSES else 0 :]]
    for position, (name, file) in enumerate(order):
        split = "train" if file in images[name][:SHOTS] else "test"
        target = folder / split / name / f"{position:04d}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(square(file))


def _of_class(name: str, folder: Path) -> list[Path]:
    """Return the images of a class in a reproducible pseudo-random order.

    Neighbours in the alphabet are often alike ("apple_green", "apple_red").
    """
    files = [p for p in folder.rglob("*.png") if not any(w in p.name.lower() for w in ("mirror", "flip"))]
    if len(files) <= SHOTS:
        raise BadDataSet(
            f"{folder} has {len(files)} images of the class {name}; at least {SHOTS + 1} are needed. "
            f"This system may have another version of the package {PACKAGE}."
        )
    files.sort(key=lambda file: hashlib.sha256(str(file.relative_to(folder)).encode()).digest())
    return files


def square(file: Path) -> bytes:
    """Return the stamp in the centre of a white square, as PNG."""
    with Image.open(file) as opened:
        stamp = opened.convert("RGBA")
    stamp.thumbnail((MAX_SIDE, MAX_SIDE))
    side = max(stamp.size)
    paper = Image.new("RGB", (side, side), "white")
    paper.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2), mask=stamp)
    data = BytesIO()
    paper.save(data, "PNG", compress_level=1)
    return data.getvalue()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        export(stamps_folder(get_settings().cache), Path(sys.argv[1]))
    except BadDataSet as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
