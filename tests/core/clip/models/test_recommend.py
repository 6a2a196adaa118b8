"""Recommendation of a pre-trained model for a machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.clip.models.backbones import SPEED, folder_of, keep_speed
from core.clip.models.recommend import (
    GB,
    Machine,
    _available_memory,
    find_speed,
    recommend,
)

CPU = Machine(gpu=None, memory=32 * GB, disk=50 * GB, bf16=True, cores=8)
B16, B32 = "ViT-B-16/openai", "ViT-B-32/openai"
MACHINES = [replace(CPU, cores=cores, bf16=bf16) for cores in (2, 8) for bf16 in (True, False)]


@pytest.mark.parametrize(
    ("gpu", "memory", "bf16", "expected"),
    [
        (8 * GB, 4 * GB, False, B16),
        (None, 12 * GB, True, B16),
        (None, 32 * GB, False, B32),
        (None, 8 * GB, True, B32),
        (None, 5 * GB, True, None),
        (4 * GB, 64 * GB, True, None),
    ],
)
def test_each_machine_has_one(
    gpu: int | None, memory: int, bf16: bool, expected: str | None, tmp_path: Path
) -> None:
    name, reason = recommend(Machine(gpu=gpu, memory=memory, disk=50 * GB, bf16=bf16, cores=2), tmp_path)
    assert name == expected
    assert f"this machine has {(gpu or memory) // GB}" in reason or "fits this machine" in reason


@pytest.mark.parametrize(
    ("tested", "images_per_second", "expected"),
    [(B16, 2.0, B32), (B16, 3.0, B16), (B32, 5.9, B32), (B32, 12.0, B16)],
)
def test_a_measurement_outweighs_what_the_processor_claims(
    tested: str, images_per_second: float, expected: str, tmp_path: Path
) -> None:
    keep_speed(tested, tmp_path, {"images_per_second": images_per_second})
    for bf16 in (True, False):
        assert recommend(replace(CPU, bf16=bf16), tmp_path)[0] == expected


def test_a_full_disk(tmp_path: Path) -> None:
    name, reason = recommend(replace(CPU, disk=-GB), tmp_path)
    assert name is None
    assert "needs 0.6 GB of disk space, and 0.0 GB is available. Free" in reason


def test_the_speed_is_measured_here_or_elsewhere(tmp_path: Path) -> None:
    guess = find_speed(B16, tmp_path, replace(CPU, cores=2))
    assert guess.images_per_second == pytest.approx(4.0)
    assert "another machine" in guess.basis
    assert not guess.here
    gpu = Machine(gpu=8 * GB, memory=0, disk=0, bf16=False, cores=1)
    assert find_speed(B32, tmp_path, gpu) is None
    assert find_speed("RN50/openai", tmp_path, CPU) is None
    folder = folder_of(B32, tmp_path)
    folder.mkdir(parents=True)
    (folder / SPEED).write_text(json.dumps({"images_per_second": 7.5}))
    for machine in (CPU, gpu):
        measured = find_speed(B32, tmp_path, machine)
        assert (measured.images_per_second, measured.here) == (7.5, True)


@pytest.mark.parametrize("tested", [None, B16, "ViT-L-14/openai"])
@pytest.mark.parametrize("machine", [*MACHINES, replace(CPU, gpu=24 * GB)])
def test_a_small_network_is_never_called_slower(machine: Machine, tested: str | None, tmp_path: Path) -> None:
    if tested is not None:
        folder_of(tested, tmp_path).mkdir(parents=True)
        (folder_of(tested, tmp_path) / SPEED).write_text('{"images_per_second": 0.3}')
    speeds = [find_speed(name, tmp_path, machine) for name in (B32, B16, "ViT-L-14/openai")]
    if machine.gpu and tested is None:
        assert speeds == [None] * 3
    else:
        small, middle, large = (speed.images_per_second for speed in speeds)
        assert 3 <= small / middle <= 4
        assert middle > large


def test_memory_is_that_of_the_container(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    assert _available_memory(meminfo, cgroup) == 1_024_000
    cgroup.mkdir()
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("5\n")
    assert _available_memory(meminfo, cgroup) == 1_024_000
    (cgroup / "memory.max").write_text("105\n")
    assert _available_memory(meminfo, cgroup) == 100
