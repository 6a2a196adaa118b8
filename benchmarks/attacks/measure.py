"""Measurement of one attack on one service: memory, CPU time, and the latency of another client."""

import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.attacks.service import OtherClient, OtherProcess, Target, Tree, running

MB = 1_000_000
MAX_MEMORY = 6_000 * MB
"""Resident bytes above which a service is killed, to protect the machine."""
MIN_AVAILABLE = 1_500 * MB
REPEAT_SECONDS = 3
MAX_REPEATS = 20
SAMPLE_SECONDS = 0.02
SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Limits:
    """Upper limits; None is not checked. An attack must always end."""

    growth: float | None = None
    """Growth of peak memory over the resident memory before (bytes)."""
    cpu: float | None = None
    """Multiple of the honest request's CPU time."""
    answer: float | None = 65_536
    """Size of the largest response (bytes)."""
    scratch: float | None = None
    """Size of temporary files (bytes)."""
    wait: float | None = 2
    """Multiple of another client's longest wait before the attack, plus one second of tolerance."""


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    attack: Callable[[Target], object]
    honest: Callable[[Target], object] | None
    limits: Limits
    statuses: frozenset[int] | None = None
    """Allowed statuses; None allows all below 500. A closed connection is always allowed."""
    starter: bool = False
    """Use the starter instead of a tiny backbone."""
    repeats: bool = True
    """Repeat a short attack for REPEAT_SECONDS."""
    alone: bool = False
    """Measure no other client, for attacks without a running API or with other processes."""
    seconds: float = 90
    environment: Mapping[str, str] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[dict[str, str]]] = lambda: nullcontext({})
    """Context that runs beside the service and yields more environment variables."""


@dataclass
class Outcome:
    ended: str = ""
    """Reason why the attack did not end; empty if it ended."""
    growth: int = 0
    scratch: int = 0
    cpu_seconds: float = 0.0
    honest_seconds: float | None = None
    attacks: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    answer: int = 0
    waits_before: tuple[float, float] | None = None
    """Median and longest request of another client before the attack (seconds)."""
    waits: tuple[float, float] | None = None
    health: float = 0.0
    """Longest request for /healthz during the attack (seconds)."""
    note: str = ""
    over: list[str] = field(default_factory=list)

    @property
    def cpu(self) -> float | None:
        return None if self.honest_seconds is None else self.cpu_seconds / self.honest_seconds

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "cpu": self.cpu}


def measure(
    row: Row, tree: Tree, backbones: Mapping[str, str], *, small: bool, memory: int | None = None
) -> Outcome:
    """Run one row against a fresh service of `tree`, with these settings and limited `memory`."""
    settings = {**backbones, **row.environment}
    if row.starter and not small:
        settings["CLIPCITE_BACKBONE"] = "starter"
    with row.around() as more, running(tree, {**settings, **more}, small=small, memory=memory) as target:
        return measure_on(row, target)


def measure_on(row: Row, target: Target) -> Outcome:
    """Run one row against a service that runs already."""
    outcome = Outcome()
    if row.honest is not None:
        outcome.honest_seconds = _honest(row.honest, target)
    target.forget()
    if row.alone:
        _watch(row, target, outcome, None, 0.0)
    else:
        with OtherProcess(ctx=get_context("spawn")) as processes:
            other = processes.OtherClient(target.url, target.tree.keys[1])  # type: ignore[attr-defined]
            for _ in range(4):  # warm up
                other.send()
            before = _cpu(target.process)
            waits = [other.send() for _ in range(20)]
            each = (_cpu(target.process) - before) / 20
            outcome.waits_before = (median(waits), max(waits))
            _watch(row, target, outcome, other, each)
    outcome.statuses, outcome.answer = dict(target.statuses), target.largest_answer
    outcome.note = target.note
    outcome.over = [*over(row, outcome), *target.broken]
    return outcome


def _honest(request: Callable[[Target], object], target: Target) -> float:
    """Return the CPU seconds of an honest request, after one to warm up.

    Raises:
        SystemExit: the request failed.
    """
    request(target)
    target.forget()
    before = _cpu(target.process)
    request(target)
    if not target.statuses or not 0 < max(target.statuses) < 500:
        raise SystemExit(f"The honest request failed with {target.statuses}, so the attack has no baseline.")
    return max(_cpu(target.process) - before, 0.01)


def _watch(row: Row, target: Target, outcome: Outcome, other: OtherClient | None, each: float) -> None:
    """Attack, and record the cost in `outcome`."""
    failures: list[BaseException] = []

    def attack() -> None:
        began = time.monotonic()
        try:
            while True:
                row.attack(target)
                outcome.attacks += 1
                if not row.repeats or outcome.attacks == MAX_REPEATS:
                    break
                if time.monotonic() - began > REPEAT_SECONDS:
                    break
        except BaseException as error:
            failures.append(error)

    process = target.process
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # reset the peak
    resident, cpu = _resident(process), _cpu(process)
    highest = resident
    attacker = threading.Thread(target=attack, daemon=True)
    began = time.monotonic()
    if other is not None:
        other.start()
    attacker.start()
    while attacker.is_alive():
        attacker.join(SAMPLE_SECONDS)
        now = _resident(process)
        highest = max(highest, now)
        if row.limits.scratch is not None:
            outcome.scratch = max(outcome.scratch, _bytes_below(target.data) + _unnamed_bytes(process))
        if not now:
            outcome.ended = "the service died"
            return
        if now > MAX_MEMORY or psutil.virtual_memory().available < MIN_AVAILABLE:
            outcome.ended = f"> {now / 1e9:.0f} GB"
        elif time.monotonic() - began > row.seconds:
            outcome.ended = f"> {row.seconds:.0f} s"
        if outcome.ended:
            break
    waits, outcome.health, refused = other.stop() if other is not None else ([], 0.0, 0)
    if waits:
        outcome.waits = (median(waits), max(waits))
        if refused:
            target.note = f"another client refused {refused} times"
            target.broken.append(target.note)
    spent = _cpu(process) - cpu - each * len(waits)
    outcome.cpu_seconds = max(spent, 0.0) / max(1, outcome.attacks)
    outcome.growth = max(highest, _peak(process)) - resident
    if not outcome.ended:
        time.sleep(SETTLE_SECONDS)
    if outcome.ended:
        process.kill()
        attacker.join(10)
    elif failures:
        outcome.ended = f"{type(failures[0]).__name__}: {failures[0]}"[:200]


def over(row: Row, outcome: Outcome) -> list[str]:
    """Return descriptions of all limits that the outcome exceeds."""
    limits = row.limits
    broken = [f"did not end: {outcome.ended}"] if outcome.ended else []
    for name, value, limit in (
        ("memory", outcome.growth / 1e6, limits.growth and limits.growth / 1e6),
        ("CPU", outcome.cpu, limits.cpu),
        ("answer", outcome.answer, limits.answer),
        ("temporary files", outcome.scratch / 1e6, limits.scratch and limits.scratch / 1e6),
    ):
        if limit is not None and value is not None and value > limit:
            broken.append(f"{name} {value:,.1f} > {limit:,.1f}")
    if limits.wait is not None and outcome.waits is not None and outcome.waits_before is not None:
        longest = limits.wait * outcome.waits_before[1] + 1
        if outcome.waits[1] > longest:
            broken.append(f"another client waited {outcome.waits[1]:.1f} s > {longest:.1f} s")
    allowed = row.statuses
    wrong = [s for s in outcome.statuses if s and (s not in allowed if allowed is not None else s >= 500)]
    if wrong:
        broken.append(f"answers {', '.join(map(str, sorted(wrong)))}")
    return broken


def _members(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and those below it, some of which decode images."""
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of the process and its children, including those that have ended."""
    ended = process.cpu_times()
    total: float = ended.children_user + ended.children_system
    for member in _members(process):
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system
    return total


def _resident(process: psutil.Process) -> int:
    """Return the resident bytes of the process and its children, 0 if it has ended.

    Images that they share count once, and program files not at all.
    """
    try:
        own, *others = [_status(member.pid) for member in _members(process)]
    except psutil.NoSuchProcess:
        return 0
    if not own:
        return 0
    shared = sum(other.get("RssShmem", 0) for other in others)
    private = sum(status.get("RssAnon", 0) for status in (own, *others))
    return private + max(own["RssShmem"], shared)


def _peak(process: psutil.Process) -> int:
    """Return the peak of the process alone, which samples may miss, or 0 if it has ended."""
    status = _status(process.pid)
    return status["VmHWM"] - status["RssFile"] if status else 0


def _status(pid: int) -> dict[str, int]:
    """Return the sizes in the kernel's status of a process (bytes), none if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    sizes = (line.split(":") for line in lines if line.startswith(("Rss", "VmHWM")))
    return {name: int(size.split()[0]) * 1024 for name, size in sizes}


def _unnamed_bytes(process: psutil.Process) -> int:
    """Return the size of open files without a name, such as the spool of an upload."""
    total = 0
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                found = descriptor.stat()
                total += 512 * found.st_blocks if stat.S_ISREG(found.st_mode) and not found.st_nlink else 0
    return total


def _bytes_below(folder: Path) -> int:
    """Return the size of temporary files with a name."""
    total = 0
    for part in ("tmp", "spool"):
        for parent, _, names in os.walk(folder / part):  # ignores folders that vanish meanwhile
            for name in names:
                with suppress(OSError):
                    total += (Path(parent) / name).stat().st_size
    return total
