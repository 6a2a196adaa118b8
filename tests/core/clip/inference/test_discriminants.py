"""Linear discriminants against an inverse of the whole covariance, and where there are none."""

import pytest
import torch

from core.clip.inference.discriminants import linear_discriminants


@pytest.mark.parametrize("repeats", [1, 5])
def test_they_are_those_of_the_covariance_within_the_classes(repeats: int) -> None:
    """With fewer shots than dimensions, and with more."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12 * repeats, 30, generator=generator)
    labels = torch.tensor([4, 1, 1, 4, 2, 2, 2, 2, 1, 4, 4, 4] * repeats)
    trained, found = (linear_discriminants(features, labels, untrained=x) for x in (False, True))
    means = torch.stack([features[labels == c].mean(dim=0) for c in (1, 2, 4)])
    residuals = features - means[[(1, 2, 4).index(c) for c in labels.tolist()]]
    covariance = residuals.T @ residuals
    covariance += covariance.trace() / 30 * torch.eye(30)
    centred = means - means.mean(dim=0)
    weights = centred @ torch.linalg.inv(covariance)
    biases = torch.stack([-w @ (means.mean(dim=0) + c / 2) for w, c in zip(weights, centred, strict=True)])
    shots = repeats * torch.tensor([3, 4, 5])
    within = covariance / (2 * (len(labels) - 3))  # the ridge doubles the trace
    noise = (torch.linalg.inv(covariance) @ within).trace() / shots
    for each, expected in ((trained, biases), (found, biases + (noise - noise.min()) / 2)):
        torch.testing.assert_close(each[0], weights, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(each[1], expected, rtol=1e-4, atol=1e-5)


def test_small_differences_between_images_count_like_large_ones() -> None:
    features = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    large, small = linear_discriminants(features, labels), linear_discriminants(features / 1000, labels)
    torch.testing.assert_close(small[0] / 1000, large[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(small[1], large[1], rtol=1e-3, atol=1e-4)


def test_there_are_none_if_no_class_has_two_different_shots() -> None:
    features = torch.eye(3)
    assert linear_discriminants(features, torch.tensor([0, 1, 2])) is None
    assert linear_discriminants(features[[0, 0, 1]], torch.tensor([5, 5, 7])) is None


def test_without_training_a_class_of_few_images_is_predicted_as_often_as_the_others() -> None:
    """Its mean is noisier, which looks like a longer way from the mean of all classes."""
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(20):
        centres = torch.randn(4, 60, generator=generator)
        labels = torch.tensor([0] * 16 + [1] * 16 + [2] * 2 + [3] * 2)
        features = centres[labels] + 2 * torch.randn(len(labels), 60, generator=generator)
        found = linear_discriminants(features, labels, untrained=True)
        images = centres.repeat(50, 1) + 2 * torch.randn(200, 60, generator=generator)
        shares.append(float(((images @ found[0].T + found[1]).argmax(dim=1) >= 2).float().mean()))
    assert sum(shares) / 20 == pytest.approx(0.5, abs=0.06)
