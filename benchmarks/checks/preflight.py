"""Detection rate of the preflight on planted faults, and false alarms on clean images.

    python -m benchmarks.checks.preflight --data clothing cifar10 stamps

Faults are planted in real images, which are saved as JPEG, opened like an upload and checked among all images
of their data set. The output below --out is JSON, with the names of all images reported without a planted
fault; some of these are real faults. The run takes minutes.
"""

import argparse
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image, ImageFilter

from benchmarks.data.folders import read_folders
from core.clip.checks.class_names import is_uninformative, similar_names
from core.clip.checks.image_stats import SIDE, ImageStats, measure_image
from core.clip.checks.preflight import CheckedImage, Finding, check_images
from core.clip.config import resolve_config
from core.clip.data.images import open_image

PLANTED = 200
SIZE = resolve_config().image_size
COPIES = ("duplicate", "near_duplicate", "duplicate_in_two_classes", "near_duplicate_in_two_classes")
Fault = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Row:
    """One kind of fault on one data set."""

    data: str
    fault: str
    planted: int
    found: int
    """Planted faults that were found; a copy must be found together with its original."""
    alarms: int
    """Findings of this kind among the `images` without a planted fault."""
    images: int

    @property
    def recall(self) -> float:
        return self.found / self.planted

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.alarms)


def cropped(share: float) -> Fault:
    """Crop by this share, more at the left and the top than at the right and the bottom."""

    def cut(image: Image.Image) -> Image.Image:
        width, height = image.size
        left, top = round(0.7 * share * width), round(0.4 * share * height)
        return image.crop((left, top, left + round((1 - share) * width), top + round((1 - share) * height)))

    return cut


def scaled(share: float) -> Fault:
    return lambda image: image.resize(
        (max(1, round(share * image.width)), max(1, round(share * image.height))),
        Image.Resampling.BICUBIC,
    )


def blurred(sigma: float) -> Fault:
    """Blur by `sigma`, in pixels of the downscaled image that is checked."""

    def blur(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(sigma * max(1.0, min(image.size) / SIDE)))

    return blur


def shrunk(share: float) -> Fault:
    """Put the image on a plain background, with this share of its side."""

    def shrink(image: Image.Image) -> Image.Image:
        side = round(max(image.size) / share)
        ground = Image.new("RGB", (side, side), (228, 226, 220))
        ground.paste(image, (side // 3, side // 2))
        return ground

    return shrink


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


COPY_FAULTS: dict[str, Fault] = {
    "saved again, quality 40": lambda image: image,
    "half the size": scaled(0.5),
    "cropped by 5%": cropped(0.05),
    "cropped by 10%": cropped(0.10),
    "mirrored": mirrored,
    "mirrored, cropped by 5%, 3/4 of the size": lambda p: scaled(0.75)(cropped(0.05)(mirrored(p))),
}
OWN_FAULTS: dict[str, tuple[str, Fault]] = {
    "blurred, σ 1.5": ("blurred", blurred(1.5)),
    "blurred, σ 2": ("blurred", blurred(2)),
    "blurred, σ 4": ("blurred", blurred(4)),
    "enlarged 5 times": ("blurred", lambda image: scaled(5)(scaled(0.2)(image))),
    "a fourth of the side": ("small_subject", shrunk(0.25)),
    "a sixth of the side": ("small_subject", shrunk(1 / 6)),
    "an eighth of the side": ("small_subject", shrunk(0.125)),
    "20 pixels": ("tiny", lambda image: scaled(20 / min(image.size))(image)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument(
        "--planted", type=int, default=PLANTED, help="number of images per fault (default 200)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    unplanted: dict[str, list[dict[str, str]]] = {}
    for folder in options.data:
        paths, images = read(folder)
        clean = check_images(images, SIZE)
        unplanted[folder.name] = [_shown(f, paths) for f in clean]
        for row in measure(folder.name, paths, images, clean, options.planted):
            rows.append(row)
            print(
                f"| {row.data} | {row.fault} | {row.planted} | {row.recall:.3f} | {row.alarms} of "
                f"{row.images:,} | {row.precision:.3f} |",
                flush=True,
            )
    print(f"| names | {json.dumps(names())} |")
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"rows": [asdict(row) for row in rows], "unplanted": unplanted}
    file = options.out / "preflight.json"
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"Written: {file}")


def read(folder: Path) -> tuple[list[Path], list[CheckedImage]]:
    """Read and check all images of a data set."""
    data = read_folders(folder)
    examples = [*data.train, *data.test]
    images = [
        # Test images serve as well as training images here, so all are in one split.
        CheckedImage(e.path.name, data.class_names[e.label], "train", str(i), sketched(e.path.read_bytes()))
        for i, e in enumerate(examples)
    ]
    return [example.path for example in examples], images


def sketched(content: bytes) -> ImageStats:
    return measure_image(open_image(content, shortest_side=SIDE, grey=True))


def measure(
    name: str, paths: Sequence[Path], images: Sequence[CheckedImage], clean: Sequence[Finding], planted: int
) -> Iterator[Row]:
    chosen = sorted(random.Random(0).sample(range(len(images)), min(planted, len(images))))
    alarms = Counter(finding.code for finding in clean)
    copies = sum(alarms[code] for code in COPIES)
    for fault, make in COPY_FAULTS.items():
        quality = 40 if "quality" in fault else 88
        # A mislabelled copy among all images of the set counts as found only together with its original.
        extra = [
            replace(_made(images[i], paths[i], make, quality), class_name="another class") for i in chosen
        ]
        found = {
            f.image: f.other
            for f in check_images([*images, *extra], SIZE)
            if f.code == "near_duplicate_in_two_classes"
        }
        hits = sum(found.get(len(images) + n) == i for n, i in enumerate(chosen))
        yield Row(name, f"copy: {fault}", len(chosen), hits, copies, len(images))
    for fault, (code, make) in OWN_FAULTS.items():
        made = [_made(images[i], paths[i], make, 88) for i in chosen]
        found_in = {f.image for f in check_images(made, SIZE) if f.code == code}
        yield Row(name, fault, len(chosen), len(found_in), alarms[code], len(images))


def _made(image: CheckedImage, path: Path, fault: Fault, quality: int) -> CheckedImage:
    buffer = io.BytesIO()
    fault(open_image(path)).save(buffer, "JPEG", quality=quality)
    return replace(image, sha256=f"planted {image.sha256}", stats=sketched(buffer.getvalue()))


def _shown(finding: Finding, paths: Sequence[Path]) -> dict[str, str]:
    def short(i: int) -> str:
        return "/".join(paths[i].parts[-3:])

    other = {} if finding.other is None else {"other": short(finding.other)}
    return {"code": finding.code, "image": short(finding.image), **other}


def names() -> dict[str, object]:
    """Return the findings on the WordNet words that timm has for ImageNet-21k, and on their ids."""
    import timm
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    file = Path(timm.__file__).parent / "data" / "_info" / "imagenet_synset_to_lemma.txt"
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    words = list(dict.fromkeys(line[1].split(",")[0].strip() for line in lines))
    made = [
        f"{word}{sign}{n}" for word in ("class", "label", "Type", "SKU") for sign in "_- " for n in (1, 40)
    ]
    codes = [line[0] for line in lines] + made + list("abcXYZ") + [str(n) for n in range(300)]
    imagenet = list(dict.fromkeys(IMAGENET_CLASSNAMES))
    return {
        "words": len(words),
        "uninformative words": [word for word in words if is_uninformative(word)],
        "codes": len(codes),
        "codes found": sum(map(is_uninformative, codes)),
        "similar among ImageNet's 998 names": similar_names(imagenet),
    }


if __name__ == "__main__":
    main()
