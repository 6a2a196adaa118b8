"""One ONNX graph from images to the probabilities of the classes, for onnxruntime alone."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.data.transforms import to_pixels
from core.clip.export.formats.classes import CLASSES, ModelExport
from core.clip.export.onnx_graphs import write_graph

CLASSIFIER = "classifier.onnx"
LOADING = """`classifier.onnx` takes RGB images as `image`, uint8 [N, {size}, {size}, 3], and returns
`probabilities` [N, C] of its classes, as the service does. Its metadata holds `names`, a JSON list of the
classes. The graph lacks the pre-trained model, which in the service answers images unlike the training images
with new names. With `pip install onnxruntime pillow numpy`:

```python
import json
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("classifier.onnx")
names = json.loads(session.get_modelmeta().custom_metadata_map["names"])
image = {fit}
probabilities = session.run(None, {{"image": np.asarray(image)[None]}})[0][0]
for i in probabilities.argsort()[::-1]:
    print(f"{{probabilities[i]:.3f}}  {{names[i]}}")
```"""
OPENED = 'ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")'
FITS = {
    "shortest": "ImageOps.fit({opened}, ({size}, {size}), Image.Resampling.{method})",
    "squash": "{opened}.resize(({size}, {size}), Image.Resampling.{method})",
}


class _Classifier(nn.Module):
    weights: Tensor
    biases: Tensor
    trained: Tensor
    anchor_weights: Tensor
    anchor_biases: Tensor

    def __init__(self, export: ModelExport, classes: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.network = export.network
        self.mean, self.std = export.backbone.mean, export.backbone.std
        scale = float(classes["logit_scale"] / classes["temperature"])
        for name in ("weights", "biases", "anchor_weights", "anchor_biases"):
            self.register_buffer(name, scale * torch.from_numpy(classes[name]))
        self.register_buffer("trained", torch.from_numpy(classes["trained"]))

    def forward(self, image: Tensor) -> Tensor:
        pixels = to_pixels(image.permute(0, 3, 1, 2), self.mean, self.std)
        features = F.normalize(self.network.encode_image(pixels), dim=-1)  # type: ignore[operator]
        scores = F.linear(features, self.weights, self.biases)
        if len(self.anchor_weights):
            best = F.linear(features, self.anchor_weights, self.anchor_biases).amax(dim=-1, keepdim=True)
            shift = best - scores.masked_fill(~self.trained, -torch.inf).amax(dim=-1, keepdim=True)
            scores = torch.where(self.trained, scores + shift, scores)
        return scores.softmax(dim=-1)


@torch.no_grad()
def write(folder: Path, export: ModelExport) -> str:
    """Write the graph. Return a program that runs it.

    Raises:
        OnnxDiffers: the probabilities of the graph differ from the model's.
        OSError: a file can't be written.
    """
    size = export.backbone.image_size
    image = torch.arange(3 * size * size * 3).remainder(251).to(torch.uint8).view(3, size, size, 3)
    path = folder / CLASSIFIER
    classes = np.load(folder / CLASSES)
    write_graph(path, _Classifier(export, classes), "image", image, "probabilities")
    graph = onnx.load(path)
    about = {"names": classes["names"].tolist(), "id": export.info.id, "alpha": export.info.alpha}
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in about.items()})
    onnx.save(graph, path)
    preprocess = export.backbone.open_clip_config["preprocess_cfg"]
    method = preprocess.get("interpolation", "bicubic").upper()
    fit = FITS["squash" if preprocess.get("resize_mode") == "squash" else "shortest"]
    return LOADING.format(size=size, fit=fit.format(opened=OPENED, size=size, method=method))
