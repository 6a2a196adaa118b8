"""Images of the demo: stamps of the drawing program Tux Paint, from a Debian package."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from demo.failure import DemoFailed
from demo.images import ImageSplit, LabelledImage

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
OWN_FOLDER = (
    "Or use your own images: `make demo DATA=folder`. The folder must contain images in "
    "train/<class name>/ and test/<class name>/."
)


def stamps_folder(cache: Path) -> Path:
    """Return the folder of the stamps: as installed, or unpacked below `cache`, which needs no root.

    Raises:
        DemoFailed: apt cannot download the package.
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
            raise DemoFailed(f"The package {PACKAGE} has no folder {STAMPS}.", OWN_FOLDER)
        (unpacked / STAMPS).rename(folder)
    return folder


def _download(folder: Path) -> Path:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise DemoFailed(
                f"This machine has no `{program}`, which the demo needs to download its images (package "
                f"{PACKAGE} of Debian and Ubuntu).",
                OWN_FOLDER,
            )
    _run(["apt-get", "download", PACKAGE], folder)
    packages = list(folder.glob("*.deb"))
    if not packages:
        raise DemoFailed(f"apt-get did not download {PACKAGE}.", OWN_FOLDER)
    return packages[0]


def _run(command: list[str], folder: Path | None = None) -> None:
    environment = {**os.environ, "LC_ALL": "C"}  # for the messages below
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode == 0:
        return
    errors = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("E: ")]
    message = " ".join(errors)[:500] or f"exit status {done.returncode}"
    advice = (
        "Run `sudo apt-get update` to fetch the package lists of apt, then `make demo` again. The demo "
        "itself needs no root."
    )
    if "Unable to locate" in message or "Can't find a source" in message or "No packages found" in message:
        reason = f"apt does not know the package {PACKAGE}, since its package lists are missing ({message})"
        advice += " On Ubuntu the package is in `universe`: `sudo add-apt-repository universe`."
    elif "Failed to fetch" in message:
        reason = f"apt could not download {PACKAGE} ({message})"
        advice = f"Check the network and the proxy. If the package lists are outdated: {advice}"
    else:
        reason = f"`{' '.join(command)}` failed ({message})"
    raise DemoFailed(reason, f"{advice}\n{OWN_FOLDER}")


def split_stamps(folder: Path, shots: int = SHOTS) -> ImageSplit:
    """Use `shots` images of each trained class for training, and all others for testing.

    Raises:
        DemoFailed: a class has too few images.
    """
    train: list[LabelledImage] = []
    test: list[LabelledImage] = []
    for name, below in TRAINED_CLASSES.items():
        images = _of_class(name, folder / below, at_least=shots + 1)
        train += images[:shots]
        test += images[shots:]
    for name, below in NEW_CLASSES.items():
        test += _of_class(name, folder / below, at_least=1)
    return ImageSplit(tuple(train), tuple(test))


def _of_class(name: str, folder: Path, *, at_least: int) -> list[LabelledImage]:
    """Return the images of a class in a reproducible pseudo-random order.

    Neighbours in the alphabet are often alike ("apple_green", "apple_red").
    """
    files = [p for p in folder.rglob("*.png") if not any(w in p.name.lower() for w in ("mirror", "flip"))]
    if len(files) < at_least:
        raise DemoFailed(
            f"{folder} has {len(files)} images of the class {name}; the demo needs {at_least}. "
            f"This system may have another version of the package {PACKAGE}.",
            OWN_FOLDER,
        )
    shown = {file: str(file.relative_to(folder)) for file in files}
    files.sort(key=lambda file: hashlib.sha256(shown[file].encode()).digest())
    return [LabelledImage(name, shown[file], square(file)) for file in files]


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
