from core.clip.evaluation.forgetting import measure_forgetting
from core.clip.models.backbone import Backbone, tower_parameters
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
    kept = measure_forgetting(tiny, weights, ["red fox"], ["a photo of a {}."], Silent())
    assert [k.alpha for k in kept] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert kept[0].text_similarity == 1.0
    prompts = [k.text_similarity for k in kept]
    assert prompts == sorted(prompts, reverse=True)
    assert prompts[-1] < 0.999
    same = Weights(full_delta(dict(tower_parameters(tiny.model))), None)
    untouched = measure_forgetting(tiny, same, ["red fox"], ["a photo of a {}."], Silent())
    assert all(k.text_similarity > 0.9999 for k in untouched)
