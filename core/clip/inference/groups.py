"""Groups of similar images, for one answer each."""

import numpy as np
from scipy import sparse

from clipcite.types.piles import MAX_GROUPS
from core.clip.inference.graph import Bools, Floats, Ints, Neighbours, cosines, unit

GROUP = 12
"""Mean number of images of a group. Small groups are purer, and several may get the same name. Nobody looks
through more than MAX_GROUPS groups, so those of a large pile are larger."""
MIN_GROUP, DENSE = 4, 4
"""Minimum number of images of a group, and number of nearest images, including the image itself, whose mean
cosine is the image's density."""
SHOWN = 9
"""Number of images that show a group."""
ROUNDS = 30
"""Maximum number of rounds of k-means."""


def groups(
    images: Floats, value: Floats | None = None, done: Bools | None = None, nearest: Neighbours | None = None
) -> list[Ints]:
    """Return groups of similar images [N, D] as rows, the group most worth labelling first.

    The central images of a group come first. All images take part, except those shown before, because images
    of none of the classes may also have been sorted into one. k-means on the sphere starts from dense images
    far from each other.

    Args:
        value: [N], how much a label of each image is worth. Groups are ordered by the sum. None: by their
            number of images.
        done: [N], True for images that were shown before.
        nearest: neighbours among the images. None: they are searched.
    """
    rest = np.arange(len(images)) if done is None else np.flatnonzero(~done)
    x = images[rest].astype(np.float32)
    wanted = min(MAX_GROUPS, len(x) // GROUP)
    if wanted < 1:
        return []
    density = Neighbours.among(x).density(DENSE) if nearest is None else nearest.density(DENSE)[rest]
    chosen, closest = [int(density.argmax())], np.full(len(x), -np.inf, np.float32)
    while len(chosen) < wanted:
        closest = np.maximum(closest, x @ x[chosen[-1]])
        chosen.append(int((density * (1 - closest)).argmax()))
    centres, group = x[chosen], np.full(len(x), -1)
    for _ in range(ROUNDS):
        found = np.concatenate([rows.argmax(axis=1) for rows in cosines(x, centres)])
        if np.array_equal(found, group):
            break
        group = found
        of_group = sparse.csr_matrix(
            (np.ones(len(x), np.float32), (group, np.arange(len(x)))), (wanted, len(x))
        )
        centres = unit(of_group @ x + 1e-6 * centres)
    use = np.ones(len(x)) if value is None else value[rest]
    members = [np.flatnonzero(group == g) for g in range(wanted)]
    kept = [
        m[np.argsort(-(x[m] @ centres[g]), kind="stable")]
        for g, m in enumerate(members)
        if len(m) >= MIN_GROUP
    ]
    return [rest[m] for m in sorted(kept, key=lambda m: -use[m].sum())]
