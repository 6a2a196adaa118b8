"""Are the adapted network's probabilities nearer to the truth than the stock network's?

How many pictures are named rightly is a coarse measure: most of them are named alike by both networks, and
say nothing. The Brier score (G. Brier, 1950) of the probabilities uses all of them, and tells a real gain
from chance on fewer pictures. It is a proper score, so that nothing is won by boldness.
"""

import numpy as np

from core.clip.evaluation.accuracy import Interval
from core.clip.evaluation.predictions import HeldOut
from core.clip.inference.calibration import ENOUGH, cross_calibrated

ERRORS = 2.0
"""Standard errors on either side: 95 %."""


def brier_gain(held: HeldOut, logit_scale: float) -> Interval | None:
    """Stock − adapted, since less is better, of the mean over the pictures of Σ (p − truth)², in 0 … 2; each
    with the temperature that suits it. The candidates are the trained names and those of the pictures.

    None with fewer than 30 pictures, which are too few for a temperature.
    """
    truth, k = held.truth, held.candidates.trained
    if held.adapted is None or len(truth) < ENOUGH:
        return None
    among = bool((truth >= k).any())
    errors = []
    for answers in (held.stock, held.adapted):
        scores = answers.among if among else answers.alone
        apart = cross_calibrated(logit_scale * scores, truth)
        apart[np.arange(len(truth)), truth] -= 1
        errors.append(np.square(apart).sum(axis=1))
    differences = errors[0] - errors[1]
    error = ERRORS * float(differences.std(ddof=1)) / len(truth) ** 0.5
    mean = float(differences.mean())
    return Interval(mean, mean - error, mean + error)
