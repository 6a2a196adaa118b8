from typing import Any

import pytest

from core.clip.checks.estimate import START_SECONDS, PastJob, Speed, estimate
from core.clip.config import resolve_config


def past(seconds: float, trained: int = 160, tests: int = 0, **config: float) -> PastJob:
    return PastJob(resolve_config(**config).model_dump(), trained, tests, seconds)


def test_without_a_past_job_the_estimate_is_unknown() -> None:
    found = estimate(resolve_config(), 160, 0, [])
    assert 20 < found.seconds < 200
    assert found.low_seconds < found.seconds / 2
    assert found.high_seconds > 2 * found.seconds
    assert "two CPU cores" in found.basis
    unknown = estimate(resolve_config(backbone="ViT-B-16/openai"), 160, 0, [])
    assert (unknown.seconds, unknown.low_seconds, unknown.high_seconds) == (None, None, None)
    assert unknown.basis


def test_the_speed_of_another_backbone_is_used_until_there_are_jobs() -> None:
    config = resolve_config(backbone="ViT-B-16/openai")
    speed = Speed(10.0, 2.0, "From a test.")
    found = estimate(config, 40, 0, [], speed)
    assert found.basis == "From a test."
    assert found.seconds == pytest.approx(START_SECONDS + 40 * 20 * 1.7 / 10, abs=15)
    assert found.low_seconds < found.seconds
    after = estimate(config, 40, 0, [PastJob(config.model_dump(), 40, 0, 54.0)], speed)
    assert after.seconds == pytest.approx(54.0, abs=0.1)


def test_the_interval_is_the_spread_of_past_jobs() -> None:
    config = resolve_config()
    steady = estimate(config, 160, 0, [past(50 + i % 3) for i in range(10)])
    wild = estimate(config, 160, 0, [past(30 + 20 * (i % 3)) for i in range(10)])
    assert steady.high_seconds < 1.3 * steady.seconds < wild.high_seconds


def test_an_outlier_does_not_decide() -> None:
    jobs = [past(50.0) for _ in range(9)]
    calm = estimate(resolve_config(), 160, 0, jobs).seconds
    assert calm == pytest.approx(50, abs=0.1)
    assert estimate(resolve_config(), 160, 0, [past(5_000.0), *jobs]).seconds == calm


def test_more_work_takes_longer() -> None:
    def seconds(trained: int = 100, tests: int = 0, **config: Any) -> float:
        found = estimate(resolve_config(**config), trained, tests, [past(50.0)]).seconds
        assert found is not None
        return found

    assert seconds(200) > seconds() > seconds(50)
    assert seconds(epochs=20) > seconds() > seconds(epochs=5)
    assert seconds(evaluate="none") < seconds(tests=100) < seconds()
    assert seconds(tests=100, evaluate="none") == seconds(evaluate="none")
