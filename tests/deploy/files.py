"""The deployment files in parsed form."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
# `${NAME:-default}` is the only form that the compose file uses.
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):-([^}]*)\}")


def compose(**variables: str) -> dict[str, Any]:
    """Return the compose file with its variables replaced by the arguments, or by their defaults."""
    text = VARIABLE.sub(lambda m: variables.get(m[1]) or m[2], COMPOSE.read_text(encoding="utf-8"))
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def own_services() -> dict[str, dict[str, Any]]:
    """Return the services that run this project's processes."""
    return {n: s for n, s in compose()["services"].items() if s["image"].startswith("clipcite:")}


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: list[Instruction]

    def of(self, word: str) -> list[str]:
        return [i.rest for i in self.instructions if i.word == word]


def stages() -> dict[str, Stage]:
    """Return the Dockerfile's stages by name, with joined continuation lines and without comments."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    joined = "\n".join(lines).replace("\\\n", "")
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in joined.splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.split()
            stage = found[name] = Stage(name, base, [])
        elif stage is not None:
            stage.instructions.append(Instruction(word, rest.strip()))
    return found


def lineage(name: str) -> list[Stage]:
    """Return a stage and its base stages, the lowest first."""
    known = stages()
    line = [known[name]]
    while line[0].base in known:
        line.insert(0, known[line[0].base])
    return line


def image_environment() -> dict[str, str]:
    pairs = (pair for stage in lineage("cpu") for env in stage.of("ENV") for pair in shlex.split(env))
    return dict(pair.split("=", 1) for pair in pairs)
