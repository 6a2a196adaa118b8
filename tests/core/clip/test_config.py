import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import InvalidConfig

RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 1000),
    "batch_size": (2, 4096),
    "micro_batch_size": (1, 4096),
    "learning_rate": (0.0, 1.0),
    "text_learning_rate": (0.0, 1.0),
    "classifier_learning_rate": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "scl_weight": (0.0, 100.0),
    "vld_weight": (0.0, 100.0),
    "alpha": (0.0, 1.0),
    "image_size": (32, 1024),
    "crop_scale": (0.01, 1.0),
    "seed": (0, 2**63 - 1),
}
WHOLE = {"epochs", "batch_size", "micro_batch_size", "image_size", "seed"}
printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(str.strip)
sentences = st.lists(printable, min_size=1, max_size=3)


def invalid_config(**given: Any) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        resolve_config(**given)
    assert caught.value.code == "invalid_config"
    assert caught.value.status == 422
    return caught.value


def test_the_defaults_are_the_papers() -> None:
    config = AdaptConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (20, 32, 5e-6)
    assert (config.scl_weight, config.vld_weight, config.alpha) == (0.7, 0.1, 0.5)
    assert config.templates == ["a photo of a {}."]


def test_the_recipe_fills_omitted_settings() -> None:
    starter = resolve_config()
    assert starter.backbone == "starter"
    assert starter == resolve_config(backbone="starter")
    assert (starter.epochs, starter.learning_rate, starter.classifier_learning_rate) == (10, 1e-4, 1e-3)
    assert starter.image_size == 160
    assert starter.batch_size == AdaptConfig().batch_size
    assert resolve_config(backbone="ViT-B-16/openai") == AdaptConfig(backbone="ViT-B-16/openai")
    # Only the exact name is the starter.
    assert resolve_config(backbone="local-dir:/starter") == AdaptConfig(backbone="local-dir:/starter")


def test_few_images_are_trained_for_at_least_thirty_steps() -> None:
    def epochs(images: int, **settings: Any) -> int:
        return resolve_config(images=images, **settings).epochs

    assert [epochs(n) for n in (4, 30, 31)] == [30, 30, 10]
    assert [epochs(30, batch_size=size) for size in (15, 10, 2)] == [15, 10, 10]
    assert epochs(4, epochs=1) == 1
    assert epochs(4, backbone="ViT-B-16/openai") == 20


def test_explicit_settings_override_the_recipe() -> None:
    config = resolve_config(epochs=3, image_size=None, learning_rate=0)
    assert (config.epochs, config.learning_rate) == (3, 0)
    assert config.image_size == 160  # None is not given
    assert config.classifier_learning_rate == 1e-3


@pytest.mark.parametrize("name", ["epoch", "lr", "", "__class__"])
def test_an_unknown_setting_is_named(name: str) -> None:
    error = invalid_config(**{name: 1})
    assert error.field == name
    assert f"`{name}`" in error.detail
    assert "epochs" in error.detail


def test_every_number_has_a_range_here() -> None:
    others = {"backbone", "templates", "prompts", "precision", "delta_format", "evaluate"}
    assert {*AdaptConfig.model_fields} - others == set(RANGES)


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_belong_to_it(name: str) -> None:
    for value in RANGES[name]:
        assert getattr(resolve_config(**{name: value}), name) == value


@pytest.mark.parametrize("name", RANGES)
def test_outside_its_range_a_setting_is_refused(name: str) -> None:
    low, high = RANGES[name]
    if name in WHOLE:
        outside: list[Any] = [low - 1, high + 1, -(10**30), 10**30, 40.5, 40.0]
    else:
        outside = [math.nextafter(low, -math.inf), math.nextafter(high, math.inf), math.nan, math.inf]
        outside += [-math.inf, 10**30]
    for value in [*outside, True, "40", "", [40], {}]:
        error = invalid_config(**{name: value})
        assert error.field == name
        assert error.detail.startswith(f"{name} must be ")
        assert repr(value) in error.detail
        assert f"{low:g} to {high:g}" in error.detail
    assert resolve_config(**{name: None}) == resolve_config()


CHOICES = {
    "precision": ["auto", "fp32", "bf16", "fp16"],
    "delta_format": ["full", "4bit"],
    "evaluate": ["auto", "none"],
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_names(name: str) -> None:
    for choice in CHOICES[name]:
        assert getattr(resolve_config(**{name: choice}), name) == choice
    for other in ["1bit", CHOICES[name][0].upper(), "", 4, [CHOICES[name][0]]]:
        error = invalid_config(**{name: other})
        assert error.field == name
        assert CHOICES[name][1] in error.detail


def test_templates_and_prompts_are_checked() -> None:
    assert invalid_config(templates=["a photo"]).field == "templates"
    assert invalid_config(prompts={"cat": []}).field == "prompts"


def test_a_config_keeps_its_own_copies() -> None:
    templates, prompts = ["a {}"], {"cat": ["a cat"]}
    config = resolve_config(templates=templates, prompts=prompts)
    templates.append("no placeholder")
    prompts["dog"] = []
    prompts["cat"].append("")
    assert config.templates == ["a {}"]
    assert config.prompts == {"cat": ["a cat"]}


@given(
    numbers=st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(int(low), int(high)) if name in WHOLE else st.floats(low, high)
            for name, (low, high) in RANGES.items()
        },
    ),
    backbone=st.sampled_from(["starter", "ViT-B-16/openai", "local-dir:/tmp/x"]),
    templates=st.lists(st.sampled_from(["{}", "a „{}“", "ein {}"]), min_size=1),
    prompts=st.dictionaries(printable, sentences, max_size=3),
)
def test_a_config_survives_json(
    numbers: dict[str, Any], backbone: str, templates: list[str], prompts: Any
) -> None:
    config = resolve_config(backbone=backbone, templates=templates, prompts=prompts, **numbers)
    plain = config.model_dump()
    read = json.loads(json.dumps(plain, allow_nan=False))
    assert read == plain
    again = resolve_config(**read)
    assert again == config
    assert set(plain) == {*AdaptConfig.model_fields}
