"""Rows of many jobs, models and events, written by the server itself."""

from dataclasses import dataclass

from sqlalchemy import text

from core.store.db.engine import make_engine
from core.store.db.tables import STATUSES, Owner


@dataclass(frozen=True)
class Size:
    """Numbers of rows."""

    ended: int
    queued: int
    owners: int


def fill(url: str, size: Size) -> None:
    """Add the rows of an installation that has run for two months, and update the planner's statistics."""
    engine = make_engine(url, migrating=True)  # without time limits
    statements = [*_STATEMENTS, "VACUUM ANALYZE"]
    if hasattr(Owner, "queued"):  # not in versions before the numbers of jobs per owner
        statements += [_COUNT, "VACUUM FULL ANALYZE owners"]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement), vars(size))
    engine.dispose()


_COUNT = f"""
UPDATE owners SET waiting_since =
    (SELECT min(created_at) FROM jobs WHERE owner = owners.name AND status = 'queued'),
    {
    ", ".join(
        f"{status} = (SELECT count(*) FROM jobs WHERE owner = owners.name AND status = '{status}')"
        for status in STATUSES
    )
}
"""
_JOB = """
INSERT INTO jobs (id, owner, status, cancel_requested, config, classes, warnings, attempts, available_at,
                  created_at, started_at, finished_at, image_bytes, reserved_bytes, error_code, model_id)
"""
_CONFIG = (
    """'{"backbone": "starter", "alpha": 0.5, "epochs": 20}', '[{"name": "red fox", "images": 8}]', '[]'"""
)
_STATEMENTS = (
    """
INSERT INTO owners (name, created_at, served_at)
SELECT 'owner-' || g, now() - interval '90 days',
       CASE WHEN g % 2 = 0 THEN now() - interval '1 hour' - g * interval '1 ms' END
FROM generate_series(0, :owners - 1) g
""",
    f"""
{_JOB}
SELECT 'job_' || lpad(g::text, 26, '0'), 'owner-' || g % :owners,
       CASE WHEN g % 100 < 7 THEN 'failed' WHEN g % 100 < 10 THEN 'cancelled' ELSE 'succeeded' END,
       false, {_CONFIG}, 1, ended, ended - interval '20 minutes', ended - interval '10 minutes', ended,
       1000000, 0, CASE WHEN g % 100 < 7 THEN 'code_' || g % 9 END,
       CASE WHEN g % 100 >= 10 THEN 'mdl_' || lpad(g::text, 26, '0') END
FROM generate_series(1, :ended) g,
     LATERAL (SELECT now() - (:ended - g) * interval '60 days' / :ended) t(ended)
""",
    """
INSERT INTO job_events (job_id, seq, at, type, data)
SELECT 'job_' || lpad(g::text, 26, '0'), seq, now(),
       CASE WHEN seq IN (2, 3) THEN 'progress' ELSE 'stage' END, '{"stage": "training", "fraction": 0.5}'
FROM generate_series(1, :ended) g, generate_series(1, 4) seq
""",
    """
INSERT INTO models (id, owner, backbone, classes, alpha, templates, prompts, weights_key, manifest_key,
                    sha256, bytes, created_at)
SELECT 'mdl_' || lpad(g::text, 26, '0'), 'owner-' || g % :owners, 'starter', '["red fox"]', 0.5,
       '["a photo of a {}."]', '{}', 'models/x/weights', 'models/x/manifest', repeat('0', 64), 1000000,
       now() - (:ended - g) * interval '1 s'
FROM generate_series(1, :ended) g WHERE g % 100 >= 10
""",
    f"""
{_JOB}
SELECT 'job_q' || lpad(g::text, 25, '0'), 'owner-' || g % :owners, 'queued', false, {_CONFIG}, 0, made, made,
       NULL, NULL, 1000000, 0, NULL, NULL
FROM generate_series(1, :queued) g, LATERAL (SELECT now() - (:queued - g + 1) * interval '10 ms') t(made)
""",
)
