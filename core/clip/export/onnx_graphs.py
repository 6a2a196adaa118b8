"""ONNX graphs of a network, verified by onnxruntime."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.models.features import MAX_DIFFERENCE
from core.errors import ExpectedError

OPSET = 18
SENTENCES = ("a photo of a red fox.", "a blurry photo of two small boats on a lake, seen from above.", "x")


class OnnxDiffers(ExpectedError):
    """The features of an ONNX graph differ from the network's."""

    code = "onnx_differs"
    status = 500


class Encoder(nn.Module):
    """One tower, with normalised features."""

    def __init__(self, network: nn.Module, kind: Literal["image", "text"]) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, batch: Tensor) -> Tensor:
        return F.normalize(getattr(self.network, f"encode_{self.kind}")(batch), dim=-1)


def write_graph(path: Path, module: nn.Module, name: str, example: Tensor, output: str = "features") -> None:
    """Export a module for any batch size, and verify the graph on batch sizes other than the example's."""
    import onnx
    import onnxruntime

    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about PyTorch internals
        torch.onnx.export(
            module.eval(),
            (example[:2],),
            str(path),
            input_names=[name],
            output_names=[output],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    onnx.checker.check_model(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for rows in (example, example[:1]):
        (found,) = session.run([output], {name: rows.numpy()})
        difference = float(np.abs(found - module(rows).numpy()).max())
        if not difference <= MAX_DIFFERENCE:
            raise OnnxDiffers(
                f"The values of the ONNX graph {path.name} differ from the model's by {difference:.1e}. "
                "Export with format=open_clip instead, and report the backbone's name."
            )
