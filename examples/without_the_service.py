"""Export a model once, then classify with onnxruntime alone, without the service.

    python examples/without_the_service.py animals@prod "red fox,badger,a garden" a.jpg b.jpg

Requires onnxruntime, numpy, pillow and a tokenizer: the package `tokenizers` for an export with
tokenizer.json, such as the starter's, otherwise open_clip. The export is stored in the folder `exported`.
"""

import importlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from clipcite import Client

FOLDER = Path("exported")


def main(model: str, names: list[str], images: list[Path]) -> None:
    if not FOLDER.is_dir():
        with Client() as client:  # the service is needed only here
            archive = client.models.export(model, "exported.zip", format="onnx")
        zipfile.ZipFile(archive).extractall(FOLDER)
    use = json.loads((FOLDER / "onnx.json").read_text())
    tokens = tokenize([f"a photo of a {name}." for name in names], use["text"]["input"]["shape"][1])
    pixels = np.stack([preprocess(path, use["image"]["preprocess"]) for path in images])
    image, text = (onnxruntime.InferenceSession(FOLDER / f"{part}.onnx") for part in ("image", "text"))
    features, anchors = image.run(None, {"pixels": pixels})[0], text.run(None, {"tokens": tokens})[0]
    cosines = np.asarray(features) @ np.asarray(anchors).T
    scores = np.exp(use["logit_scale"] * (cosines - cosines.max(axis=1, keepdims=True)))
    for path, row in zip(images, scores / scores.sum(axis=1, keepdims=True), strict=True):
        print(path, ", ".join(f"{names[i]} {100 * row[i]:.0f}%" for i in row.argsort()[::-1]))


def preprocess(path: Path, how: dict[str, Any]) -> np.ndarray:
    """Resize the shorter side, crop the centre and normalise: float32 [3, H, W]."""
    height, width = how["size"]
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = max(width / image.width, height / image.height)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
    return ((pixels - np.float32(how["mean"])) / np.float32(how["std"])).transpose(2, 0, 1)


def tokenize(prompts: list[str], length: int) -> np.ndarray:
    """Return token ids, int64 [C, length]."""
    if not (file := FOLDER / "tokenizer.json").is_file():  # CLIP's tokenizer, part of open_clip
        tokenizer = importlib.import_module("open_clip").SimpleTokenizer(context_length=length)
        return np.asarray(tokenizer(prompts))
    tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(file))
    tokenizer.enable_padding(length=length)
    return np.array([line.ids for line in tokenizer.encode_batch(prompts)])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), [Path(file) for file in sys.argv[3:]])
