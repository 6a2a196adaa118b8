"""The check of a sort: its interval, and that it measures without teaching."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import hypergeom
from typer.testing import CliRunner

from clipcite import Job
from clipcite.__main__ import app
from clipcite.sorting.check import Check
from clipcite.sorting.log import Log
from tests.clipcite.painted import paint
from tests.clipcite.sorting.sorted_folder import log_of
from tests.service.running import Service


@pytest.mark.parametrize("total", [20, 60, 240])
def test_the_interval_holds(total: int) -> None:
    """For each possible number of right images, the interval of a draw of 20 contains it in 95% of draws."""
    intervals = [Check(right, 20, total).interval() for right in range(21)]
    for right in range(total + 1):
        chances = hypergeom.pmf(range(21), total, right, 20)
        pairs = zip(chances, intervals, strict=True)
        assert sum(chance for chance, (low, high) in pairs if low <= right / total <= high) >= 0.95


def test_a_check_of_all_images_is_exact() -> None:
    assert Check(17, 20, 20).interval() == (0.85, 0.85)


def test_words() -> None:
    """The page's documentation has the same numbers."""
    expected = "Of 20 images drawn at random from 240, 18 are sorted right: 90% (likely 69 to 98)."
    assert Check(18, 20, 240).words() == expected


def test_a_check_measures_and_does_not_teach(service: Service, tmp_path: Path, taught: Job) -> None:
    """`taught` fails if the model got corrections. The second run asks for no further image."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"pile/{name}", 4)
    into, environment = tmp_path / "pile-sorted", {"CLIPCITE_URL": service.url}
    kinds = {"red": "red", "green": "green", "blue": "x"}

    def sort(*options: str, typed: str = "") -> Any:
        command = ["sort", str(tmp_path / "pile"), "-m", taught.model_id or "", *options]
        return CliRunner().invoke(app, command, input=typed, env=environment)

    before = json.loads(sort("--json").stdout)
    shown = re.findall(r"\[\d+/12\] (\S+\.png)(.*)", sort("--check", "12", typed="s\n" * 12 + "n\n").stderr)
    assert {rest.strip() for _, rest in shown} == {""}  # the model's class is not shown
    files = [file for file, _ in shown]
    assert sorted(files) == sorted(image["file"] for image in before["images"]) != files
    typed = [kinds[Path(file).parent.name] for file in files]
    stopped = sort("--check", "12", typed="\n".join([*typed[:5], "q", "n", ""]))
    assert "Of 5 images drawn at random from 12" in stopped.stdout
    resumed = sort("--check", "9", typed="\n".join([*typed[5:9], "n", ""]))
    assert re.findall(r"\[\d/4\] (\S+\.png)", resumed.stderr) == files[5:9]
    sort("--check", "12", typed="\n".join([*typed[9:], "n", ""]))
    log = Log(log_of(into))
    assert (len(log.checked), log.labels) == (12, {})
    right = sum(
        image["class"] == Path(image["file"]).parent.name
        or (image["something_else"] and Path(image["file"]).parent.name == "blue")
        for image in before["images"]
    )
    done = sort("--check", "12", typed="n\n")
    assert f"Of 12 images drawn at random from 12, {right} are sorted right" in done.stdout
    assert "Class" not in done.stderr
    after = json.loads(sort("--check", "12", "--json").stdout)
    assert after["check"] == {"right": right, "count": 12, "total": 12, "interval": [right / 12] * 2}
    for image in after["images"]:  # checked images go where the person says
        expected = {"blue": "something else"}.get(Path(image["file"]).parent.name)
        assert image["class"] == (expected or Path(image["file"]).parent.name)
    assert sort().stdout.count("drawn at random") == 0
