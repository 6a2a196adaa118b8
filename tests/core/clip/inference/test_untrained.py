"""Names that a model was not trained for."""

import pytest
import torch
import torch.nn.functional as F

from core.clip.inference.untrained import unrelated


@pytest.mark.parametrize("classes", [2, 5])
def test_a_name_is_unrelated_below_the_mean_similarity_of_the_trained_names(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    trained, texts = (F.normalize(torch.randn(n, 6, generator=generator), dim=-1) for n in (classes, 40))
    nearest = [max(float(a @ b) for j, b in enumerate(trained) if i != j) for i, a in enumerate(trained)]
    expected = [max(float(text @ t) for t in trained) < sum(nearest) / classes for text in texts]
    assert 0 < sum(expected) < len(texts)
    assert unrelated(texts, trained).tolist() == expected
    assert not unrelated(trained, trained).any()
