"""The delta θ_1 − θ_0, quantised to a fraction of the size of θ_1.

The delta is small and needs few bits (after BitDelta, J. Liu et al., NeurIPS 2024, arXiv 2402.10193). A
matrix or filter bank is stored as one 4-bit integer per weight and one scale per row (an output of the layer,
or a token). Vectors are stored in full precision, because they are few and influential.
benchmarks/pages/ablations.md has the loss in accuracy.

The integers of a row are stored in 32-bit words, as 8 planes of adjacent weights. So unpacking is a shift and
a mask of whole vectors, at memory bandwidth. Loading a cold model includes unpacking.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcite.types.adapt import DeltaFormat
from core.clip.weights.ensemble import interpolate
from core.clip.weights.flat import empty_flat

FULL: DeltaFormat = "full"
BITS, WORD = 4, 32
PLANES = WORD // BITS
MAX_CODE = 7  # largest integer of 4 bits
UNPACK_BATCH_SIZE = 2**20  # weights per unpacking step, which stay in the processor's cache


@dataclass(frozen=True)
class Delta:
    """The packed weights of an adapted model, without its backbone."""

    kind: DeltaFormat
    tensors: Mapping[str, Tensor]
    """Stored tensors. Unquantised: θ_1 by parameter name. Quantised: `words/name`, int32 [rows, words], and
    `scale/name`, fp32 [rows]."""

    def theta(self, theta_0: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
        """Return θ(α) of eq. 7 as new tensors on the device of θ_0.

        α = 0 is bit-identical to θ_0. α = 1 is bit-identical to θ_1 if that is stored in full precision.

        Raises:
            ValueError: α is outside [0, 1], or θ_0 and the delta hold different parameters.
        """
        if self.kind == FULL or alpha == 0:
            return interpolate(theta_0, self.tensors if self.kind == FULL else theta_0, alpha)
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, not {alpha}.")
        if set(tensor_layout(theta_0, self.kind)) != set(self.tensors):
            raise ValueError("θ_0 and the delta hold different parameters.")
        theta = empty_flat(theta_0)
        for name, before in theta_0.items():
            self._interpolate(name, before, alpha, theta[name])
        return theta

    @torch.no_grad()
    def _interpolate(self, name: str, before: Tensor, alpha: float, after: Tensor) -> None:
        """Fill `after` with one parameter of θ(α)."""
        if name in self.tensors:
            torch.lerp(before, self.tensors[name].to(before.device), alpha, out=after)
            return
        words = self.tensors[f"words/{name}"].to(before.device)
        scale = self.tensors[f"scale/{name}"].to(before.device) * alpha
        before_rows, after_rows = before.flatten(1), after.flatten(1)
        step = max(1, UNPACK_BATCH_SIZE // before_rows.shape[1])
        for start in range(0, len(words), step):
            some = slice(start, start + step)
            # In the top bits of an int32, a signed code is multiplied by 2^28.
            codes = _at_the_top(words[some]).float().flatten(1)[:, : before_rows.shape[1]]
            factor = (scale[some] / 2.0 ** (WORD - BITS))[:, None]
            torch.addcmul(before_rows[some], codes, factor, out=after_rows[some])


@torch.no_grad()
def encode(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], kind: DeltaFormat) -> Delta:
    """Encode θ_1 in the delta format `kind`, on the CPU.

    Raises:
        ValueError: θ_0 and θ_1 hold different parameters.
    """
    if theta_0.keys() != theta_1.keys():
        raise ValueError("θ_0 and θ_1 hold different parameters.")
    tensors: dict[str, Tensor] = {}
    for name, after in theta_1.items():
        if kind == FULL or after.dim() < 2:
            tensors[name] = after.detach().cpu().contiguous()
        else:
            rows = (after - theta_0[name].to(after.device)).cpu().flatten(1)
            scale = rows.abs().amax(dim=1) / MAX_CODE
            codes = (rows / scale.clamp(min=torch.finfo(scale.dtype).tiny)[:, None]).round().int()
            tensors[f"words/{name}"], tensors[f"scale/{name}"] = _packed(codes), scale
    return Delta(kind, tensors)


def tensor_layout(
    theta_0: Mapping[str, Tensor], kind: DeltaFormat
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return the type and shape of each stored tensor of a delta to θ_0, by name."""
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for name, before in theta_0.items():
        if kind == FULL or before.dim() < 2:
            expected[name] = before.dtype, tuple(before.shape)
        else:
            rows, columns = len(before), before[0].numel()
            expected[f"words/{name}"] = torch.int32, (rows, -(-columns // PLANES))
            expected[f"scale/{name}"] = torch.float32, (rows,)
    return expected


def _packed(codes: Tensor) -> Tensor:
    """Pack codes [R, C] into words [R, W]. Plane p of a row has its p-th block of W weights."""
    codes = F.pad(codes, (0, -codes.shape[1] % PLANES)).unflatten(1, (PLANES, -1)) & (2**BITS - 1)
    shifts = torch.arange(0, WORD, BITS, dtype=torch.int32)
    return (codes << shifts[:, None]).sum(dim=1, dtype=torch.int32)  # no two planes share a bit


def _at_the_top(words: Tensor) -> Tensor:
    """Unpack words [R, W] to [R, planes, W], each code in the highest bits of an int32, the rest 0."""
    shifts = torch.arange(WORD - BITS, -1, -BITS, dtype=torch.int32, device=words.device)
    codes = words[:, None, :] << shifts[:, None]
    codes &= -(2 ** (WORD - BITS))
    return codes
