"""`alpha: "auto"`: which α a model is served at by default."""

from collections.abc import Sequence

from core.clip.answers import HeldOut
from core.clip.evaluate import paired_bootstrap
from core.clip.retention import Kept

USUAL = 0.5
MOST_LOST = 0.1
"""Of the agreement on what nobody trained, against α = 0.5, above which more α is not taken."""
RULE = (
    "0.5, unless the held-out pictures speak against it: 0 where fewer of them are named rightly at 0.5 "
    "than by the stock network; 1 where clearly more are (the 95 % interval of the difference lies "
    "above 0) and no more than a tenth of the drawn pictures are seen otherwise than at 0.5."
)


def choose_alpha(held: HeldOut, kept: Sequence[Kept]) -> float:
    """By `RULE`, on the names that were trained and others as candidates."""
    truth = held.truth[held.on_curve]
    right = {alpha: answers.among.argmax(axis=1) == truth for alpha, answers in held.curve.items()}
    alone = {alpha: answers.alone.argmax(axis=1) == truth for alpha, answers in held.curve.items()}
    if alone[USUAL].sum() < alone[0.0].sum():
        return 0.0
    agreement = {k.alpha: k.agreement for k in kept}
    best, lead = USUAL, 0.0
    for alpha in sorted(right):
        difference = paired_bootstrap(right[alpha], right[USUAL])
        loses = alpha > USUAL and agreement[alpha] < agreement[USUAL] - MOST_LOST
        if difference.low > lead and not loses:
            best, lead = alpha, difference.low
    return best
