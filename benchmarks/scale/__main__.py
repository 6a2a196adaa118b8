"""Cost of the queue and of the API's queries with many jobs, on a real PostgreSQL.

    python -m benchmarks.scale --ended 1000000 --queued 100000 --owners 1000 --out FOLDER

For comparison, the same is measured with 1,000 jobs. `--starts SECONDS` also runs eight dispatchers, Redis
and processes that claim and end the jobs.
"""

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from benchmarks.machine import processor
from benchmarks.scale.measure import Cost, cost
from benchmarks.scale.rows import Size, fill
from benchmarks.scale.starts import run_starts
from core.settings import Settings
from core.store import submission
from core.store.db import migrate
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.jobs import events, jobs, leases
from core.store.jobs.stats import backlog
from core.store.registry import models
from tests.servers import postgres

try:
    from core.store.jobs import counters, fair_queue, workers
except ImportError:  # versions before the numbers of jobs per owner
    counters = None  # type: ignore[assignment]

SMALL = Size(ended=900, queued=100, owners=10)
AHEAD = 36
"""Wake-ups per round: 32 idle workers and four more."""


def cases(size: Size, settings: Settings) -> dict[str, Callable[[Session], object]]:
    """Return the measured calls by name."""

    def dispatch_round(session: Session, ahead: int = AHEAD) -> object:
        jobs.expire_leases(session, max_attempts=3)
        jobs.any_queued(session)
        limit = 0
        if counters is not None:
            workers.idle(session, 30)
            limit = fair_queue.running_limit(session, settings)
        return jobs.take_due(session, redispatch_seconds=30, ahead=ahead, max_running=limit)

    def get_job(number: int) -> Callable[[Session], object]:
        job_id, owner = f"job_q{number:025}", f"owner-{number % size.owners}"

        def call(session: Session) -> object:
            return jobs.queue_position(session, jobs.get(session, job_id, owner=owner))

        return call

    def list_jobs(session: Session) -> object:
        page, _ = jobs.list_page(session, owner="owner-0", status="queued", limit=20)
        return jobs.queue_positions(session, page)

    def submit(session: Session) -> object:
        job: dict[str, Any] = {"name": None, "config": {"backbone": "starter"}, "classes": [], "warnings": []}
        return submission.submit_job(
            session, settings, None, owner="owner-0", job_id=new_id("job"), images=[], **job
        )

    def start(session: Session) -> object:
        return leases.claim(session, f"job_q{size.queued:025}", worker="w", lease_seconds=30)

    def resolve(session: Session) -> object:
        return models.resolve(
            session, f"mdl_{size.ended - 1:026}", owner=f"owner-{(size.ended - 1) % size.owners}"
        )

    found: dict[str, Callable[[Session], object]] = {
        "dispatch round": dispatch_round,
        "dispatch round, 512 idle workers": lambda session: dispatch_round(session, ahead=516),
        "GET /jobs/{id}, first in the queue": get_job(1),
        "GET /jobs/{id}, in the middle": get_job(size.queued // 2),
        "GET /jobs/{id}, last": get_job(size.queued),
        "GET /jobs?status=queued, 20 jobs": list_jobs,
        "metrics scrape": lambda session: backlog(session, redispatch_seconds=30),
        "submission": submit,
        "start of a job": start,
        "model of /classify": resolve,
        "pruning, one batch": events.prune_progress,
    }
    if counters is not None:
        found["check of queued and running, every minute"] = lambda session: counters.wrong_owners(
            session, ("queued", "running"), until=counters.page_end(session, "")
        )
        found["check of all statuses, every hour"] = counters.wrong_owners
    return found


def measure(server: str, size: Size, *, times: int, starts: float = 0) -> dict[str, Any]:
    """Measure in a new database of the server."""
    name = f"scale_{os.getpid()}_{size.ended}_{size.owners}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    try:
        migrate.upgrade(url)
        fill(url, size)
        database = Database(url)
        process = psutil.Process()
        memory = [process.memory_info().rss]
        costs = []
        for case, call in cases(size, Settings()).items():
            try:
                costs.append(cost(database, case, call, times))
            except Exception as error:  # for example over the time limit of a statement
                costs.append(Cost(f"{case}: {type(error).__name__}", math.nan, math.nan, 0, 0, 0))
            print(costs[-1], flush=True)
        memory.append(process.memory_info().rss)
        ran = run_starts(url, seconds=starts) if starts else None
        database.close()
        return {
            "size": asdict(size),
            "costs": [asdict(one) for one in costs],
            "memory_growth_mb": (memory[1] - memory[0]) / 1e6,
            "starts": None if ran is None else asdict(ran),
        }
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def table(small: dict[str, Any], large: dict[str, Any]) -> str:
    """Return a Markdown table: processor time and rows of both sizes."""
    jobs_of = [f"{r['size']['ended'] + r['size']['queued']:,} jobs" for r in (small, large)]
    lines = [
        f"| call | CPU, ms ({jobs_of[0]}) | CPU, ms ({jobs_of[1]}) "
        "| wall, ms | statements | rows read | temp blocks |",
        "|---|---|---|---|---|---|---|",
    ]
    for little, much in zip(small["costs"], large["costs"], strict=True):
        lines.append(
            f"| {much['name']} | {little['cpu_ms']:.1f} | {much['cpu_ms']:.1f} | {much['wall_ms']:.1f} "
            f"| {much['statements']} | {much['rows']:,} | {much['temp_blocks']:,} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ended", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--owners", type=int, nargs="+", default=[1_000])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--starts", type=float, default=0, help="seconds of the simulation")
    parser.add_argument("--out", type=Path, help="folder for scale.json")
    options = parser.parse_args(arguments)
    machine = f"{processor()}, {os.cpu_count()} cores"
    with postgres() as server:
        small = measure(server, SMALL, times=options.times)
        results = []
        for owners in options.owners:
            size = Size(options.ended, options.queued, owners)
            results.append(measure(server, size, times=options.times, starts=options.starts))
            print(f"\n{options.ended:,} ended, {options.queued:,} queued jobs, {owners:,} owners; {machine}")
            print(table(small, results[-1]))
            print(f"memory of this process: {results[-1]['memory_growth_mb']:+.1f} MB")
            print(f"starts: {results[-1]['starts']}", flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        record = {"machine": machine, "small": small, "large": results}
        (options.out / "scale.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
