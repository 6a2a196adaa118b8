"""The steps of a new user, which equal those of the page."""

import pytest

from benchmarks.newcomer import PAGE, README, Step, commands_of, commands_of_readme, problem_of, table


def test_the_steps_equal_the_pages() -> None:
    steps = commands_of(PAGE.read_text(encoding="utf-8"))
    assert len(steps) == 8
    assert steps[0] == (
        "Install",
        "python3 -m venv .venv\n.venv/bin/python -m pip install --quiet '.[server,starter]'\n",
    )
    assert [commands.split()[1] for _, commands in steps[3:]] == [
        "adapt",
        "adapt",
        "classify",
        "report",
        "export",
    ]


def test_the_readme_leads_to_a_classification() -> None:
    steps = [commands for _, commands in commands_of_readme(README.read_text(encoding="utf-8"))]
    assert steps[:2] == ["make demo\n", ".venv/bin/clipcite serve\n"]
    assert [commands.split()[1] for commands in steps[2:]] == ["samples", "adapt", "classify"]


@pytest.mark.parametrize(
    ("commands", "said", "succeeds"),
    [
        ("clipcite adapt images --wait", "verdict  Better. 90% correct", True),
        ("clipcite adapt images --wait", "verdict  Looks better, not proven. 90% correct", False),
        ("clipcite adapt images --dry-run", "", True),
        ("make demo", "Not better. 20% correct", False),
        ("clipcite classify images", "images/test/screw/000.jpg  screw (new)  61.3%", True),
        ("clipcite classify images", "images/test/screw/000.jpg  nut  61.3%", False),
    ],
)
def test_a_walk_ends_in_success_only(commands: str, said: str, succeeds: bool) -> None:
    assert (problem_of(commands, said) is None) == succeeds


def test_the_table_adds_up() -> None:
    shown = table([Step("Clone", "", 0.4), Step("Install", "", 60.4), Step("Start it", "", 9.6)])
    assert "| Clone | 0 |\n| 1. Install | 60 |\n| 2. Start it | 10 |\n| **all of it** | **70** |" in shown
