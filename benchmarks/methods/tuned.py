"""One grid of settings for all methods: twelve trials each. Also the methods with the settings chosen by it.

`benchmarks.accuracy.tuning` runs the grid and stores its log.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.methods.clip_cite import config_of, ensemble, train
from benchmarks.methods.clip_lora import RECIPES as LORA_RECIPES
from benchmarks.methods.clip_lora import clip_lora
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Method, Predictor, Task
from benchmarks.methods.coop import RECIPES as COOP_RECIPES
from benchmarks.methods.coop import coop
from benchmarks.methods.fair import Network, WithOffsets, ensemble_with_stock
from benchmarks.methods.flyp import RECIPES as FLYP_RECIPES
from benchmarks.methods.flyp import flyp
from benchmarks.methods.ft_probe import RECIPES as FT_PROBE_RECIPES
from benchmarks.methods.ft_probe import ft_probe
from benchmarks.methods.linear_probe import LinearProbe, linear_probe
from benchmarks.methods.prolip import RECIPES as PROLIP_RECIPES
from benchmarks.methods.prolip import prolip
from benchmarks.methods.tip_adapter import RECIPES as TIP_RECIPES
from benchmarks.methods.tip_adapter import Cache, tip_adapter

LOG = Path(__file__).parent.parent / "results" / "tuning-starter.json"
"""Trials of the starter, one object each, with `chosen` true for one trial of each method."""
TRIALS = 12
RATES = {"1": 1.0, "1/3": 1 / 3, "3": 3.0}
"""Factors on the learning rates of the backbone's recipe."""
LENGTHS = {"1": 1, "2": 2}
"""Factors on its epochs or steps."""
PROBE_C = (31.6, *(10 ** (exponent / 2) for exponent in range(-3, 9) if exponent != 3))
COOP_CONTEXTS: Mapping[str, str | int] = {"context a photo of a": "a photo of a", "16 random vectors": 16}
TIP_ALPHAS = (1.0, 3.0)
Settings = TypeVar("Settings", bound=Any)


@dataclass(frozen=True)
class Factors:
    """Factors on the learning rates and on the length of a recipe."""

    rate: float
    length: int

    def scale(self, settings: Settings) -> Settings:
        """Return the settings of a method with this length and these rates."""
        factors = {"learning_rate": self.rate, "classifier_learning_rate": self.rate}
        factors |= {"epochs": self.length, "steps": self.length, "steps_per_shot": self.length}
        known = {name: factor for name, factor in factors.items() if hasattr(settings, name)}
        changes = {name: factor * getattr(settings, name) for name, factor in known.items()}
        scaled: Settings = replace(settings, **changes)
        return scaled


Training = Callable[[Factors, Task], dict[str, Predictor]]
"""A method at one length and learning rate: its predictors by the value of its own setting."""


def _clip_cite(factors: Factors, task: Task) -> dict[str, Predictor]:
    theta_1 = train(task, factors.scale(config_of(task))).theta_1
    return {f"α {alpha:g}": ensemble(task, theta_1, alpha) for alpha in (0.5, 1.0)}


def _with_ensemble(trained: Predictor) -> dict[str, Predictor]:
    return {"α 1": trained, "α 0.5": ensemble_with_stock(trained)}


def _ft_probe(factors: Factors, task: Task) -> dict[str, Predictor]:
    return _with_ensemble(ft_probe(task, factors.scale(recipe(FT_PROBE_RECIPES, task.backbone)))["FT-Probe"])


def _flyp(factors: Factors, task: Task) -> dict[str, Predictor]:
    return _with_ensemble(flyp(task, factors.scale(recipe(FLYP_RECIPES, task.backbone)))["FLYP"])


def _clip_lora(factors: Factors, task: Task) -> dict[str, Predictor]:
    trained = clip_lora(task, factors.scale(recipe(LORA_RECIPES, task.backbone)))
    return _with_ensemble(trained["CLIP-LoRA"])


def _coop(factors: Factors, task: Task) -> dict[str, Predictor]:
    settings = factors.scale(recipe(COOP_RECIPES, task.backbone))
    return {
        name: coop(task, replace(settings, context=context))["CoOp"]
        for name, context in COOP_CONTEXTS.items()
    }


def _tip_adapter(factors: Factors, task: Task) -> dict[str, Predictor]:
    settings = factors.scale(recipe(TIP_RECIPES, task.backbone))
    cache = tip_adapter(task, settings)["Tip-Adapter-F"]
    assert isinstance(cache, Cache)
    return {
        f"weight {alpha:g}": replace(cache, settings=replace(settings, alpha=alpha)) for alpha in TIP_ALPHAS
    }


def _prolip(factors: Factors, task: Task) -> dict[str, Predictor]:
    settings = factors.scale(recipe(PROLIP_RECIPES, task.backbone))
    shots = len(task.labels) / len(task.class_names)
    strengths = {"λ 1/shots": 1 / shots, "λ 1/shots²": 1 / shots**2}
    return {
        name: prolip(task, replace(settings, regularisation=strength))["ProLIP"]
        for name, strength in strengths.items()
    }


def _linear_probe(task: Task) -> dict[str, Predictor]:
    return {f"C {c:.3g}": linear_probe(task, LinearProbe(c))["Linear probe"] for c in PROBE_C}


def _grid(training: Training) -> dict[str, Method]:
    return {
        f"rate × {rate}, length × {length}": partial(training, Factors(RATES[rate], LENGTHS[length]))
        for rate in RATES
        for length in LENGTHS
    }


GRIDS: Mapping[str, Mapping[str, Method]] = {
    "clip_cite": _grid(_clip_cite),
    "ft_probe": _grid(_ft_probe),
    "flyp": _grid(_flyp),
    "coop": _grid(_coop),
    "tip_adapter": _grid(_tip_adapter),
    "clip_lora": _grid(_clip_lora),
    "prolip": _grid(_prolip),
    "linear_probe": {"C": _linear_probe},
}
"""Trainings by method and name, the settings of the recipe first. Their predictors are the trials."""
NAMES = {
    "clip_cite": "CLIP-CITE",
    "ft_probe": "FT-Probe",
    "flyp": "FLYP",
    "coop": "CoOp",
    "tip_adapter": "Tip-Adapter-F",
    "clip_lora": "CLIP-LoRA",
    "prolip": "ProLIP",
    "linear_probe": "Linear probe",
}


def tuned(method: str, task: Task) -> dict[str, Predictor]:
    """Train with the chosen settings of the log. Networks are also returned with class offsets."""
    (chosen,) = (
        t for t in json.loads(LOG.read_text(encoding="utf-8")) if t["method"] == method and t["chosen"]
    )
    predictor = GRIDS[method][chosen["training"]](task)[chosen["setting"]]
    label = f"{NAMES[method]}, tuned"
    predictors = {label: predictor}
    if isinstance(predictor, Network):
        predictors[f"{label}, balanced"] = WithOffsets(predictor)
    return predictors


TUNED: Mapping[str, Method] = {f"{method}-tuned": partial(tuned, method) for method in GRIDS}
"""Methods by name. They are not part of `--methods all`, whose runs are stored."""
