"""Imports between the parts of the project: a new part, and a new import between parts, must be listed here.

`import-linter` checks the layers inside the parts (pyproject.toml).
"""

import grimp

SHARED = {
    "core.errors",
    "core.log",
    "core.scratch",
    "core.settings",
    "core.store",
    "core.url_guard",
}
"""Modules of core/ that both api/ and worker/ use."""

ALLOWED = {
    "admin": {
        "api",
        "clipcite",
        "core.clip",
        "core.errors",
        "core.parent_watch",
        "core.samples",
        "core.scratch",
        "core.settings",
        "core.store",
        "worker",
    },
    "api": SHARED
    | {
        "clipcite.types",
        "core.admission",
        "core.clip",
        "core.metrics",
        "core.parent_watch",
        "core.samples",
        "core.turns",
    },
    "clipcite": {"clipcite.types"},
    "clipcite.types": set(),
    "core.admission": {"core.errors"},
    "core.clip": {"core.errors", "core.parent_watch", "core.turns"},
    "core.errors": set(),
    "core.log": {"core.parent_watch", "core.settings"},
    "core.metrics": {"core.store"},
    "core.parent_watch": set(),
    "core.samples": {"core.errors"},
    "core.scratch": {"core.admission", "core.errors"},
    "core.settings": set(),
    "core.store": {"core.clip", "core.errors", "core.log", "core.scratch", "core.settings"},
    "core.turns": set(),
    "core.url_guard": {"core.errors"},
    "worker": SHARED | {"core.clip", "core.metrics", "core.parent_watch"},
}


def part_of(module: str) -> str:
    """Return the part of a module: a package, a child of core/, or clipcite.types."""
    return ".".join(module.split(".")[: 2 if module.startswith(("core.", "clipcite.types")) else 1])


def test_parts_import_only_what_is_listed() -> None:
    graph = grimp.build_graph("admin", "api", "clipcite", "core", "worker")
    imports = {
        (part_of(module), part_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    unlisted = {
        (part, imported)
        for part, imported in imports
        if imported not in {part, "core"} and imported not in ALLOWED.get(part, set())
    }
    assert unlisted == set()
    assert {part_of(module) for module in graph.modules} - {"core"} == ALLOWED.keys()
