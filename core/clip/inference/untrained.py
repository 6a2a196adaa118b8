"""What a model was not trained for: images unlike its training images, with names unlike its trained names.

The pre-trained network answers them, with its own image and text features, in requests with new names.
`pile.Foreign` finds the images by the features of the adapted network, so only they pass through both.
benchmarks/pages/requests.md has the measurements.
"""

import torch
from torch import Tensor


def unrelated(texts: Tensor, trained: Tensor) -> Tensor:
    """Return [C], True for names that are unlike all trained names.

    Their similarity to the nearest trained name is below the mean similarity of a trained name to the nearest
    other one.

    Args:
        texts: [C, D], features of the names, normalised, from the pre-trained network.
        trained: [K, D], the same of the trained names, K > 1.
    """
    among = (trained @ trained.T).fill_diagonal_(-torch.inf).amax(dim=1)
    return (texts @ trained.T).amax(dim=1) < among.mean()
