"""Memory of architectures, computed from their shapes."""

import open_clip
import pytest
import torch
from torch import nn

from core.clip.models.sizes import _saved_bytes, size_of
from tests.core.clip.families import SMALL


def test_stored_activations_without_parameters_and_without_duplicates() -> None:
    """Stored are the input (4 floats) and the ReLU's result (8 floats), which the second layer shares."""
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert _saved_bytes(network, lambda: network(torch.zeros(1, 4))) == 4 * (4 + 8)
    assert _saved_bytes(network, lambda: network(torch.zeros(3, 4))) == 3 * 4 * (4 + 8)


@pytest.mark.parametrize("family", SMALL)
def test_a_small_architecture(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = SMALL[family]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", config)
    size_of.cache_clear()
    size = size_of("small")
    model = open_clip.create_model("small", load_weights=False)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert size.file_bytes == 4 * size.parameters
    weights = size.training_bytes(0, 0)
    assert weights == 8 * size.file_bytes + 500_000_000
    assert size.training_bytes(8, 2) == weights + 8 * size.image_bytes + 2 * size.prompt_bytes
    assert min(size.image_bytes, size.prompt_bytes) > 10_000


def test_a_shape_that_only_the_hub_knows() -> None:
    assert size_of("roberta-ViT-B-32") is None
