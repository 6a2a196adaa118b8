import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from benchmarks.methods.linear_probe import logistic_regression


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    centres = torch.randn(3, 16, generator=generator)
    return F.normalize(centres[labels] + torch.randn(60, 16, generator=generator), dim=-1), labels


def test_equals_scikit_learn(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = data
    weight, bias = logistic_regression(features, labels, 3, 31.6, 1_000)
    reference = LogisticRegression(C=31.6, max_iter=1_000, tol=1e-8)
    reference.fit(features.double().numpy(), labels.numpy())
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-3)
    # The softmax leaves one bias undetermined.
    np.testing.assert_allclose(
        (bias - bias.mean()).numpy(), reference.intercept_ - reference.intercept_.mean(), atol=1e-3
    )
