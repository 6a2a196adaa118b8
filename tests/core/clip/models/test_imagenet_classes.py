from core.clip.models.imagenet_classes import distractor_classes


def test_the_distractor_classes_share_no_word_with_the_trained() -> None:
    names = distractor_classes(["White Shark", "tench"], 50)
    assert len(set(names)) == len(names) == 50
    assert not {"white", "shark", "tench"} & {word for name in names for word in name.casefold().split()}
    assert distractor_classes([], 50) != names
