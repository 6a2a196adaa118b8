"""Image towers of timm's networks."""

import timm
import torch
from torch import Tensor, nn


class Tower(nn.Module):
    """Image tower of a timm network with distinct statistics in every norm."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk = timm.create_model(name, num_classes=16)
        generator = torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias.data):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
                for tensor in (module.running_var, module.weight.data):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        self.eval()

    def encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.trunk(pixels)
        return features


class Shared(Tower):
    """Network whose convolution feeds its norm and another path, and so must not be fused."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        stem = self.trunk.conv1(pixels)
        return (self.trunk.bn1(stem) + stem).mean(dim=(2, 3))


def pixels(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(count, 3, size, size, generator=generator)
    return batch.contiguous(memory_format=torch.channels_last)
