"""Textiles: simulated images of woven fabric, with and without defects, from a package."""

from functools import cache
from pathlib import Path

from core.samples.packages import missing, package_files
from core.samples.sample import Sample

PACKAGE = "conformal_clip_data"
IMAGES = "data/textile_images/simulated/{}/textile_{:04d}.jpg"
SHA256 = "3b921dfde5122478cf6791d38019f6b35b2e32a3cc26672d3efd956888a6baf9"
FOLDERS = {
    "even fabric": "nominal",
    "fabric with a small spot": "local",
    "fabric with coarse threads": "global",
}
SIZE = 48
"""Images per class, of the 500 or 1,000 of the package."""


def load(class_name: str, number: int) -> bytes:
    return _files()[class_name][number].read_bytes()


@cache
def _files() -> dict[str, list[Path]]:
    names = [IMAGES.format(folder, 1 + number) for folder in FOLDERS.values() for number in range(SIZE)]
    paths = package_files(PACKAGE, names, SHA256)
    return {name: paths[place * SIZE : (place + 1) * SIZE] for place, name in enumerate(FOLDERS)}


TEXTILES = Sample(
    name="textiles",
    title="Simulated fabric with defects",
    trained=dict.fromkeys(FOLDERS, SIZE),
    new={},
    shots=16,
    suffix="jpg",
    license="MIT",
    credit="Textile images of conformal-clip-data (Megahed et al., arXiv 2501.12596).",
    load=load,
    problem=lambda: missing(PACKAGE),
)
