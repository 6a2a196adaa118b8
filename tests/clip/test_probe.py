import numpy as np

from core.clip.backbone import Backbone, tower_parameters
from core.clip.delta import whole
from core.clip.probe import DRAWN, OTHER_NAMES, drawn_pictures, other_names
from core.clip.progress import Silent
from core.clip.retention import what_was_kept
from core.clip.weights import Weights
from tests.serving.adapted import moved


def test_the_other_names_share_no_word_with_the_trained() -> None:
    names = other_names(["White Shark", "tench"])
    assert len(set(names)) == len(names) == OTHER_NAMES
    assert not {"white", "shark", "tench"} & {word for name in names for word in name.casefold().split()}
    assert other_names([]) != names


def test_the_pictures_are_always_the_same_and_all_different() -> None:
    one, other = (np.stack([np.asarray(p) for p in drawn_pictures()]) for _ in range(2))
    assert one.shape == (DRAWN, 224, 224, 3)
    assert np.array_equal(one, other)
    assert len({picture.tobytes() for picture in one}) == DRAWN


def test_what_was_kept_falls_with_alpha(tiny: Backbone) -> None:
    weights = Weights(whole(moved(tiny)), None)
    kept = what_was_kept(tiny, weights, ["red fox"], ["a photo of a {}."], Silent())
    assert [k.alpha for k in kept] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (kept[0].text_similarity, kept[0].agreement) == (1.0, 1.0)
    texts = [k.text_similarity for k in kept]
    assert texts == sorted(texts, reverse=True)
    assert texts[-1] < 0.999
    same = Weights(whole(dict(tower_parameters(tiny.model))), None)
    untouched = what_was_kept(tiny, same, ["red fox"], ["a photo of a {}."], Silent())
    assert all(k.agreement == 1.0 and k.text_similarity > 0.9999 for k in untouched)
