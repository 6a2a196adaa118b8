"""The steps of a new user, which equal those of the page."""

from benchmarks.newcomer import PAGE, Step, commands_of, table


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


def test_the_table_adds_up() -> None:
    shown = table([Step("Install", "", 60.4), Step("Start it", "", 9.6)])
    assert "| 1. Install | 60 |\n| 2. Start it | 10 |\n| **all of it** | **70** |" in shown
