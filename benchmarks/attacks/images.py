"""Attacks by image files: JPEG scans, many costly images concurrently, the worst file of each format."""

from collections.abc import Callable

from benchmarks.attacks.measure import MB, Limits, Row
from benchmarks.attacks.service import Target, run_concurrently
from tests.api import crafted

LARGE_BYTES = 800 * MB
"""Memory of all images that take more than 64 MB, decoded concurrently."""
SMALL_SIDE = 1_000
SIDE = 6_320
"""Side of an image just below the default limit of 40 million pixels."""
MULTIPLE = 3
"""Maximum CPU time of an accepted image, as a multiple of an honest one of its format."""
TIMED = {"TIFF": 6, "BMP": 20}  # the timer of a decoder allows a second; honest files need less


def rows(small: bool) -> list[Row]:
    runs = 2 if small else 40
    at_a_time = [
        Row(
            name,
            f"{runs} concurrent dry runs, each of 4 {what}",
            _dry_runs(make, runs),
            lambda target: target.dry_run(*[crafted.honest("WebP", _side(target))] * 4),
            Limits(growth=1.1 * LARGE_BYTES),
            repeats=False,
            starter=True,
            seconds=300,
        )
        for name, what, make in (
            ("A6", "TIFFs of 32-bit floats (250 kB)", crafted.float_tiff),
            ("A6-webp", "WebPs of 46 bytes", crafted.flat_webp),
        )
    ]
    more, side = (20, SMALL_SIDE) if small else (800, 6_000)
    scans = Row(
        "A1",
        f"/classify, 2 JPEGs of {more + 6} scans",
        lambda target: target.classify(*[crafted.jpeg_of_scans(more + 6, side)] * 2),
        lambda target: target.classify(*[crafted.honest("JPEG", _side(target))] * 2),
        Limits(cpu=0.1 if not small else MULTIPLE),
        starter=True,
        seconds=60,
    )
    formats = [
        Row(
            f"{kind}-{route}",
            f"{'/classify' if route == 'classify' else 'dry run'}, the worst {kind}",
            _one(costliest, kind, route),
            _one(crafted.honest, kind, route),
            Limits(cpu=TIMED.get(kind, MULTIPLE)),
            starter=True,
            seconds=60,
        )
        for kind in crafted.FORMATS
        for route in ("classify", "adapt")
    ]
    return [scans, *at_a_time, *formats]


def costliest(kind: str, side: int) -> bytes:
    """Return the slowest file below the limits on bytes and pixels, without other bounds."""
    if kind == "WebP":
        return crafted.flat_webp(side)
    if kind == "TIFF":
        return crafted.tiff_of_jpegs(96, side)
    if kind == "BMP":  # one pixel per line: Pillow fills the rest byte by byte in Python
        return crafted.bmp_of_runs(side, side, b"\1\5\0\0" * side + b"\0\1")
    return crafted.worst(kind, side)


def _side(target: Target) -> int:
    return SMALL_SIDE if target.small else SIDE


def _dry_runs(make: Callable[[int], bytes], runs: int) -> Callable[[Target], object]:
    def attack(target: Target) -> None:
        image = make(_side(target))
        run_concurrently([lambda: target.dry_run(*[image] * 4)] * runs)

    return attack


def _one(make: Callable[[str, int], bytes], kind: str, route: str) -> Callable[[Target], object]:
    def send(target: Target) -> None:
        image = make(kind, _side(target))
        if route == "classify":
            target.classify(image)
        else:
            target.dry_run(image, image)

    return send
