"""Registry of the methods by name."""

from collections.abc import Mapping

from benchmarks.methods.clip_cite import clip_cite
from benchmarks.methods.clip_lora import clip_lora
from benchmarks.methods.common.task import Method
from benchmarks.methods.coop import coop
from benchmarks.methods.flyp import flyp
from benchmarks.methods.ft_probe import ft_probe
from benchmarks.methods.linear_probe import linear_probe
from benchmarks.methods.preview import preview
from benchmarks.methods.prolip import prolip
from benchmarks.methods.stock import stock
from benchmarks.methods.tip_adapter import tip_adapter

METHODS: Mapping[str, Method] = {
    "stock": stock,
    "preview": preview,
    "clip_cite": clip_cite,
    "linear_probe": linear_probe,
    "ft_probe": ft_probe,
    "flyp": flyp,
    "coop": coop,
    "tip_adapter": tip_adapter,
    "clip_lora": clip_lora,
    "prolip": prolip,
}
