"""Cost of a function in the database: processor time, rows read, blocks of temporary files."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from core.store.db.session import Database

TIMES = 20


@dataclass(frozen=True)
class Cost:
    """Cost of one call."""

    name: str
    cpu_ms: float
    """Processor time of PostgreSQL's process for the connection; the mean of all calls."""
    wall_ms: float
    """Median duration, including the client."""
    statements: int
    rows: int
    """Rows that the plans read from tables and indexes."""
    temp_blocks: int
    """Blocks of 8 kB written to temporary files."""


def cost(database: Database, name: str, call: Callable[[Session], object], times: int = TIMES) -> Cost:
    """Measure a function that uses one session. All changes are rolled back."""
    with database.engine.connect() as connection:
        process = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.rollback()
        walls = []
        before = 0.0
        for number in range(times + 1):
            if number == 1:  # the first call only fills the caches
                before = _cpu_seconds(process)
            started = time.perf_counter()
            with Session(connection) as session:
                call(session)
            walls.append(1000 * (time.perf_counter() - started))
        seconds = _cpu_seconds(process) - before
        statements, rows, temp_blocks = _plans(connection, call)
    return Cost(name, 1000 * seconds / times, median(walls[1:]), statements, rows, temp_blocks)


def _cpu_seconds(process: int) -> float:
    """Return the processor time of a process, in nanosecond resolution."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _plans(connection: Any, call: Callable[[Session], object]) -> tuple[int, int, int]:
    """Run the function once more. Return the sums of its statements: number, rows read, temporary blocks."""
    found = [0, 0, 0]

    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        found[0] += 1
        if many or not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            return
        with conn.connection.cursor() as other:
            other.execute("SAVEPOINT explained")  # EXPLAIN ANALYZE changes rows, too
            other.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            plan = other.fetchone()[0]
            other.execute("ROLLBACK TO SAVEPOINT explained")
        plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        found[1] += _rows_read(plan)
        found[2] += plan.get("Temp Written Blocks", 0)

    event.listen(connection, "before_cursor_execute", explain)
    try:
        with Session(connection) as session:
            call(session)
    finally:
        event.remove(connection, "before_cursor_execute", explain)
        connection.rollback()
    return found[0], found[1], found[2]


def _rows_read(plan: dict[str, Any]) -> int:
    """Return the rows that the scans of tables and indexes have read, including those that filters drop."""
    below = sum(_rows_read(child) for child in plan.get("Plans", ()))
    if "Relation Name" not in plan or plan["Node Type"] == "ModifyTable":
        return below
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    read += plan.get("Rows Removed by Index Recheck", 0)
    return below + int(read * plan["Actual Loops"])
