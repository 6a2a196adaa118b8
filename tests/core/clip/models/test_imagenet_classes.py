from collections.abc import Sequence

from torch import Tensor

from core.clip.evaluation.forgetting import GROUP_SIZE, POOL, Forgetting, measure_forgetting
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.imagenet_classes import DISTRACTOR_CLASSES, distractor_classes
from core.clip.training.progress import Silent
from core.clip.weights.delta import full_delta
from core.clip.weights.files import Weights
from tests.core.serving.adapted import moved


def test_the_distractor_classes_share_no_word_with_the_trained() -> None:
    names = distractor_classes(["White Shark", "tench"])
    assert len(set(names)) == len(names) == DISTRACTOR_CLASSES
    assert not {"white", "shark", "tench"} & {word for name in names for word in name.casefold().split()}
    assert distractor_classes([]) != names


def test_forgetting_grows_with_alpha(tiny: Backbone) -> None:
    weights = Weights(full_delta(moved(tiny)), None)
    kept = measured(tiny, weights)
    assert [k.alpha for k in kept.by_alpha] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (kept.by_alpha[0].near, kept.by_alpha[0].far) == (1.0, 1.0)
    for similarities in ([k.near for k in kept.by_alpha], [k.far for k in kept.by_alpha]):
        assert similarities == sorted(similarities, reverse=True)
        assert similarities[-1] < 0.999
    same = Weights(full_delta(dict(tower_parameters(tiny.model))), None)
    assert all(min(k.near, k.far) > 0.9999 for k in measured(tiny, same).by_alpha)


def measured(tiny: Backbone, weights: Weights) -> Forgetting:
    trained = texts(tiny, ["red fox"])
    return measure_forgetting(tiny, weights, ["red fox"], trained, ["a photo of a {}."], Silent())


def texts(tiny: Backbone, names: Sequence[str]) -> Tensor:
    return build_zero_shot_classifier(
        tiny.model, tiny.tokenize, [[f"a photo of a {name}."] for name in names]
    )


def test_near_classes_are_nearer_than_far_ones(tiny: Backbone) -> None:
    kept = measured(tiny, Weights(full_delta(moved(tiny)), None))
    assert len({*kept.near_classes, *kept.far_classes}) == 2 * GROUP_SIZE
    pool = distractor_classes(["red fox"], POOL)
    of_pool = dict(zip(pool, (texts(tiny, pool) @ texts(tiny, ["red fox"]).T)[:, 0].tolist(), strict=True))
    nearest_first = sorted(pool, key=lambda name: -of_pool[name])
    assert of_pool[kept.near_classes[0]] == max(of_pool.values())
    assert of_pool[kept.far_classes[0]] == min(of_pool.values())
    assert set(kept.near_classes) == set(nearest_first[:GROUP_SIZE])
    assert set(kept.far_classes) == set(nearest_first[-GROUP_SIZE:])
