"""The worker's and the dispatcher's operations on a job."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from core.store.db.session import Database, database_now
from core.store.db.tables import RUNNING, Job, JobEvent, Model
from core.store.errors import ModelNotFound, NotFound
from core.store.jobs import fair_queue, lifecycle
from core.store.jobs.lifecycle import Claim
from core.store.registry import models
from core.store.storage import deletions
from tests.core.store.samples import (
    OWNER,
    claimed,
    expire,
    job_of,
    let_lease_expire,
    new_job,
    new_model,
    new_owner,
    publish,
    types_of,
)


def test_a_job_from_the_queue_to_its_model(database: Database) -> None:
    job_id = new_job(database, name="foxes")
    claim = claimed(database, job_id)
    assert (claim.attempt, claim.name, claim.config["backbone"]) == (1, "foxes", "starter")
    with database.write() as session:
        assert lifecycle.claim(session, job_id, worker="w2", lease_seconds=30) is None  # A duplicate message.
    for progress in (
        {"stage": "preparing"},
        {"stage": "training", "step": 1},
        {"stage": "training", "step": 2},
    ):
        with database.write() as session:
            assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False
    assert job_of(database, job_id).progress == {"stage": "training", "step": 2}

    model = new_model()
    assert publish(database, claim, model)
    job = job_of(database, job_id)
    assert (job.status, job.model_id, job.metrics) == ("succeeded", model.id, {"verdict": "better"})
    assert (job.lease_token, job.lease_expires_at) == (None, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    with database.read() as session:
        stored = models.get(session, model.id, owner=OWNER)
    assert (stored.alpha, stored.bytes, stored.job_id) == (0.1 + 0.2, 5_000_000_000, job_id)
    assert types_of(database, job_id) == [
        "queued",
        "started",
        "stage",
        "stage",
        "model_published",
        "succeeded",
    ]


def test_a_loss_that_is_not_a_number_is_stored_as_null(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    progress = {"stage": "training", "loss": {"total": float("nan"), "dva": [float("inf"), 1.0]}}
    with database.write() as session:
        assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False
    stored = job_of(database, job_id).progress
    assert stored == {"stage": "training", "loss": {"total": None, "dva": [None, 1.0]}}


def test_a_warning_is_recorded_once(database: Database) -> None:
    job_id = new_job(database, warnings=[{"code": "few", "detail": "Few images."}])
    claim = claimed(database, job_id)
    for _ in range(2):
        with database.write() as session:
            assert lifecycle.record_warning(session, claim, "batch", "Halved.")
    assert [w["code"] for w in job_of(database, job_id).warnings] == ["few", "batch"]


def test_a_failure_keeps_the_trainers_message(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    with database.write() as session:
        assert lifecycle.finish_failed(session, claim, code="worker_crashed", detail="a\0b \udcff")
    job = job_of(database, job_id)
    assert (job.status, job.error_code, job.error_detail) == ("failed", "worker_crashed", "a\ufffdb ?")


def test_an_expired_lease_requeues_the_job_until_its_attempts_are_used(database: Database) -> None:
    job_id = new_job(database)
    assert expire(database) == []
    for attempt in (1, 2):
        assert claimed(database, job_id).attempt == attempt
        assert expire(database) == []  # The lease has not expired.
        let_lease_expire(database, job_id)
        assert expire(database) == ["queued"]
        with database.write() as session:
            assert fair_queue.take_due(session, redispatch_seconds=30, ahead=4) == [job_id]  # Immediately.
    claimed(database, job_id)
    let_lease_expire(database, job_id)
    assert expire(database) == ["failed"]
    job = job_of(database, job_id)
    assert (job.attempts, job.error_code) == (3, "worker_lost")
    assert "3 times" in (job.error_detail or "")
    assert types_of(database, job_id) == ["queued", *["started", "requeued"] * 2, "started", "failed"]


def test_an_expired_lease_of_a_job_to_be_cancelled_cancels_it(database: Database) -> None:
    job_id = new_job(database)
    claimed(database, job_id)
    with database.write() as session:
        lifecycle.request_cancel(session, job_id, owner=OWNER)
    let_lease_expire(database, job_id)
    assert expire(database) == ["cancelled"]


@pytest.mark.parametrize(
    ("spend", "max_attempts", "status", "attempts"),
    [(False, 1, "queued", 0), (True, 2, "queued", 1), (True, 1, "failed", 1)],
)
def test_a_requeued_job(
    database: Database, spend: bool, max_attempts: int, status: str, attempts: int
) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    with database.write() as session:
        assert lifecycle.requeue(
            session,
            claim,
            spend_attempt=spend,
            max_attempts=max_attempts,
            code="storage_full",
            detail="Make room.",
        )
    job = job_of(database, job_id)
    assert (job.status, job.attempts) == (status, attempts)
    assert job.error_code == ("storage_full" if status == "failed" else None)


def test_a_second_attempt_keeps_the_start_of_the_first(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    first = job_of(database, job_id).started_at
    assert first is not None
    with database.write() as session:
        lifecycle.requeue(session, claim, spend_attempt=True, max_attempts=2, code="oom", detail="Killed.")
    assert job_of(database, job_id).started_at == first
    time.sleep(0.01)
    assert claimed(database, job_id).attempt == 2
    assert job_of(database, job_id).started_at == first


def test_a_job_requeued_after_a_cancel_is_cancelled(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    with database.write() as session:
        lifecycle.request_cancel(session, job_id, owner=OWNER)
    with database.write() as session:
        assert lifecycle.requeue(session, claim, spend_attempt=False, max_attempts=3, code="c", detail="d")
    assert job_of(database, job_id).status == "cancelled"


STALE_WRITES: dict[str, Callable[[Any, Claim], bool | str | None]] = {
    "renew_lease": lambda s, c: lifecycle.renew_lease(s, c, lease_seconds=30, progress={"stage": "late"}),
    "warning": lambda s, c: lifecycle.record_warning(s, c, "late", "late"),
    "failed": lambda s, c: lifecycle.finish_failed(s, c, code="late", detail="late"),
    "cancelled": lambda s, c: lifecycle.finish_cancelled(s, c),
    "requeue": lambda s, c: lifecycle.requeue(
        s, c, spend_attempt=True, max_attempts=1, code="late", detail="late"
    ),
    "publish": lambda s, c: lifecycle.publish(s, c, "mdl_1", new_model().manifest, None),
    "finish": lambda s, c: lifecycle.finish(s, c, None, "jobs/x/report-late.json"),
}


@pytest.mark.parametrize("taken", ["queued again", "running elsewhere", "succeeded elsewhere", "deleted"])
@pytest.mark.parametrize("write", STALE_WRITES)
def test_a_worker_that_wakes_after_its_lease_writes_nothing(
    database: Database, write: str, taken: str
) -> None:
    job_id = new_job(database)
    frozen = claimed(database, job_id)
    let_lease_expire(database, job_id)
    assert expire(database) == ["queued"]
    if taken in {"running elsewhere", "succeeded elsewhere"}:
        second = claimed(database, job_id)
        assert second.token != frozen.token
        if taken == "succeeded elsewhere":
            assert publish(database, second)
    if taken == "deleted":
        with database.write() as session:
            lifecycle.delete(session, job_id, owner=OWNER)
        before = None
    else:
        before = _columns(job_of(database, job_id))

    with database.write() as session:
        assert STALE_WRITES[write](session, frozen) in (None, False)

    if before is not None:
        assert _columns(job_of(database, job_id)) == before
    with database.read() as session:
        published = session.scalar(select(func.count()).select_from(Model))
    assert published == (taken == "succeeded elsewhere")


def _columns(job: Job) -> dict[str, Any]:
    return {column.key: getattr(job, column.key) for column in Job.__table__.columns}


def test_publish_repeated_after_a_lost_answer_succeeds(database: Database) -> None:
    job_id = new_job(database)
    claim, model = claimed(database, job_id), new_model()
    assert publish(database, claim, model)
    assert publish(database, claim, model)
    assert types_of(database, job_id)[-2:] == ["model_published", "succeeded"]


def test_a_returned_message_is_sent_again_at_once(database: Database) -> None:
    first, second = new_job(database), new_job(database)
    with database.write() as session:
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == [first]
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == []
    with database.write() as session:
        lifecycle.hand_back(session, first)
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == [first]
    held = claimed(database, first)
    with database.write() as session:
        lifecycle.hand_back(session, first)  # Too late to have an effect.
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == [second]
    assert job_of(database, first).lease_token == held.token


# --- a model before its evaluation ---


def evaluating(database: Database, **given: Any) -> Claim:
    claim = claimed(database, new_job(database, reserved_bytes=7, **given))
    assert publish(database, claim, evaluate=True)
    return claim


def announce(database: Database, *prefixes: str) -> None:
    with database.write() as session:
        for prefix in prefixes:
            deletions.announce(session, prefix)


def metrics_of_model(database: Database, job_id: str) -> Any:
    with database.read() as session:
        return session.scalar(select(Model.metrics).where(Model.job_id == job_id))


def test_a_model_is_published_before_its_evaluation(database: Database) -> None:
    claim = claimed(database, new_job(database, reserved_bytes=7))
    model, progress = new_model(), {"stage": "publishing", "fraction": 0.5}
    announce(database, f"models/{model.id}", "jobs/x/report-1.json")
    with database.write() as session:
        assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False
    for _ in range(2):  # The second call is a retry after a lost answer.
        with database.write() as session:
            metrics = {"verdict": "evaluating"}
            assert lifecycle.publish(
                session, claim, model.id, model.manifest, metrics, seconds=12.5, evaluate=True
            )
    job = job_of(database, claim.job_id)
    assert (job.status, job.model_id, job.metrics) == ("running", model.id, {"verdict": "evaluating"})
    assert (job.progress, job.reserved_bytes) == ({"stage": "evaluating", "fraction": 0.5}, 0)
    assert metrics_of_model(database, claim.job_id) == {"verdict": "evaluating"}
    with database.write() as session:
        assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False
        assert lifecycle.training_seconds(session, claim.job_id) == 12.5
    assert (job_of(database, claim.job_id).progress or {})["stage"] == "evaluating"

    for _ in range(2):
        with database.write() as session:
            assert lifecycle.finish(session, claim, {"verdict": "better"}, "jobs/x/report-1.json")
    job = job_of(database, claim.job_id)
    assert (job.status, job.metrics, job.report_key) == (
        "succeeded",
        {"verdict": "better"},
        "jobs/x/report-1.json",
    )
    assert job.finished_at is not None
    assert metrics_of_model(database, claim.job_id) == {"verdict": "better"}
    types = types_of(database, claim.job_id)
    assert types == ["queued", "started", "stage", "model_published", "stage", "succeeded"]


def test_a_job_that_lost_its_worker_in_the_evaluation_keeps_its_model(database: Database) -> None:
    claim = evaluating(database)
    model_id = job_of(database, claim.job_id).model_id
    for attempt in (2, 3):
        let_lease_expire(database, claim.job_id)
        assert expire(database) == ["queued"]
        again = claimed(database, claim.job_id)
        assert (again.attempt, again.model_id) == (attempt, model_id)
        with database.write() as session:
            assert not lifecycle.publish(
                session, again, "mdl_2", new_model().manifest, None
            )  # It already has a model.
            assert not lifecycle.finish(session, claim, None, "late")  # The first worker wakes up.
    let_lease_expire(database, claim.job_id)
    assert expire(database) == ["succeeded"]
    assert_not_evaluated(database, claim.job_id, "evaluation_failed")
    assert job_of(database, claim.job_id).model_id == model_id


def assert_not_evaluated(database: Database, job_id: str, code: str) -> None:
    job = job_of(database, job_id)
    assert (job.status, job.metrics, job.error_code) == ("succeeded", {"verdict": "not_evaluated"}, None)
    assert metrics_of_model(database, job_id) == {"verdict": "not_evaluated"}
    assert [warning["code"] for warning in job.warnings] == [code]
    assert (job.lease_token, job.report_key) == (None, None)
    assert types_of(database, job_id)[-2:] == ["warning", "succeeded"]


@pytest.mark.parametrize("moment", ["running", "lost", "queued", "requeue"])
def test_a_cancel_ends_the_evaluation_only(database: Database, moment: str) -> None:
    claim = evaluating(database)
    if moment == "queued":
        let_lease_expire(database, claim.job_id)
        assert expire(database) == ["queued"]
    with database.write() as session:
        lifecycle.request_cancel(session, claim.job_id, owner=OWNER)
    if moment == "running":
        with database.write() as session:
            assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=None) is True
            assert lifecycle.finish_cancelled(session, claim) == "succeeded"
    elif moment == "lost":
        let_lease_expire(database, claim.job_id)
        assert expire(database) == ["succeeded"]
    elif moment == "requeue":
        with database.write() as session:
            given: dict[str, Any] = {"max_attempts": 3, "code": "worker_stopped", "detail": "Stopped."}
            assert lifecycle.requeue(session, claim, spend_attempt=False, **given) == "succeeded"
    assert_not_evaluated(database, claim.job_id, "evaluation_cancelled")
    with database.write() as session:  # Repeating is harmless.
        assert lifecycle.request_cancel(session, claim.job_id, owner=OWNER).status == "succeeded"


def test_an_evaluation_that_fails_does_not_fail_the_job(database: Database) -> None:
    claim = evaluating(database)
    with database.write() as session:
        failed = lifecycle.finish_failed(session, claim, code="out_of_memory", detail="Use less.")
        assert failed == "succeeded"
    assert_not_evaluated(database, claim.job_id, "evaluation_failed")
    assert "Use less." in job_of(database, claim.job_id).warnings[0]["detail"]


def test_a_deleted_job_leaves_no_model_that_waits_for_an_evaluation(database: Database) -> None:
    claim = evaluating(database)
    let_lease_expire(database, claim.job_id)
    assert expire(database) == ["queued"]
    with database.write() as session:
        lifecycle.delete(session, claim.job_id, owner=OWNER)
    assert metrics_of_model(database, claim.job_id) == {"verdict": "not_evaluated"}


def named(database: Database, reference: str = "foxes") -> str:
    with database.read() as session:
        return models.resolve(session, reference, owner=OWNER).id


def end(database: Database, claim: Claim, verdict: str) -> None:
    report = f"jobs/{claim.job_id}/report-1.json"
    announce(database, report)
    with database.write() as session:
        assert lifecycle.finish(session, claim, {"verdict": verdict}, report)


def evaluated_later(database: Database) -> tuple[Claim, str]:
    """Publish the next version of `foxes`. Return its claim and its id."""
    claim, model = claimed(database, new_job(database)), new_model(name="foxes")
    assert publish(database, claim, model, evaluate=True)
    return claim, model.id


@pytest.mark.parametrize(
    ("verdict", "takes_name"),
    [
        *[(verdict, True) for verdict in ("better", "probably_better", "no_clear_gain", "not_evaluated")],
        *[(verdict, False) for verdict in ("probably_worse", "worse")],
    ],
)
def test_a_name_moves_to_a_version_that_is_not_worse(
    database: Database, verdict: str, takes_name: bool
) -> None:
    first, old = evaluated_later(database)
    assert named(database) == old  # the only version, before its verdict
    end(database, first, "better")
    second, new = evaluated_later(database)
    assert (named(database), named(database, "foxes@2")) == (old, new)  # the verdict is not known yet
    end(database, second, verdict)
    assert named(database) == (new if takes_name else old)
    with database.read() as session:
        last = session.scalars(select(JobEvent).where(JobEvent.job_id == second.job_id)).all()[-1]
        assert last.data["promoted"] == takes_name


def test_of_two_jobs_at_once_the_higher_version_that_is_not_worse_has_the_name(database: Database) -> None:
    (first, one), (second, two), (third, three) = (evaluated_later(database) for _ in range(3))
    assert named(database) == three
    end(database, third, "worse")
    assert named(database) == two
    end(database, second, "better")
    end(database, first, "better")
    assert (named(database), named(database, "foxes@3")) == (two, three)
    with database.write() as session:
        models.delete(session, two, owner=OWNER)
    assert named(database) == one


def test_a_name_without_a_version_in_use_says_what_to_do(database: Database) -> None:
    claim, model = evaluated_later(database)
    end(database, claim, "worse")
    with (
        database.read() as session,
        pytest.raises(NotFound, match=f"foxes@1.*PATCH /models/{model}") as refused,
    ):
        models.resolve(session, "foxes", owner=OWNER)
    assert refused.value.code == "model_not_promoted"
    with database.read() as session, pytest.raises(ModelNotFound):
        models.resolve(session, "foxes", owner=new_owner(database, "other"))


def test_a_promotion_before_the_verdict_is_kept(database: Database) -> None:
    first, _ = evaluated_later(database)
    end(database, first, "better")
    claim, model = evaluated_later(database)
    with database.write() as session:
        models.promote(session, model, owner=OWNER)
    assert named(database) == model
    end(database, claim, "worse")
    assert named(database) == model


@pytest.mark.parametrize("end_of_job", ["cancelled", "failed", "lost worker"])
def test_a_model_without_a_verdict_takes_its_name_when_its_job_ends(
    database: Database, end_of_job: str
) -> None:
    first, old = evaluated_later(database)
    end(database, first, "better")
    claim, model = evaluated_later(database)
    if end_of_job == "lost worker":
        let_lease_expire(database, claim.job_id)
        assert expire(database) == ["queued"]
        assert named(database) == old  # the next attempt evaluates
        claim = claimed(database, claim.job_id)
    with database.write() as session:
        if end_of_job == "cancelled":
            lifecycle.request_cancel(session, claim.job_id, owner=OWNER)
            assert lifecycle.finish_cancelled(session, claim) == "succeeded"
        else:
            assert lifecycle.finish_failed(session, claim, code="x", detail="y") == "succeeded"
    assert named(database) == model


def test_a_worker_that_lost_its_lease_does_not_move_the_name(database: Database) -> None:
    first, old = evaluated_later(database)
    end(database, first, "better")
    frozen, _ = evaluated_later(database)
    let_lease_expire(database, frozen.job_id)
    assert expire(database) == ["queued"]
    with database.write() as session:
        assert not lifecycle.finish(session, frozen, {"verdict": "better"})
    assert named(database) == old


def test_a_deleted_model_does_not_stop_the_end(database: Database) -> None:
    claim = evaluating(database)
    with database.write() as session:
        models.delete(session, str(job_of(database, claim.job_id).model_id), owner=OWNER)
    announce(database, "jobs/x/report-1.json")
    with database.write() as session:
        assert lifecycle.finish(session, claim, {"verdict": "better"}, "jobs/x/report-1.json")
    assert job_of(database, claim.job_id).status == "succeeded"


def test_a_lease_that_a_wrong_clock_wrote_ends_soon(database: Database) -> None:
    """The clock was a day ahead. A living worker renews its lease meanwhile."""
    dead, alive = (claimed(database, new_job(database), lease_seconds=86_400) for _ in range(2))
    assert expire(database) == []
    with database.write() as session:
        assert lifecycle.renew_lease(session, alive, lease_seconds=60, progress=None) is False
        ends = database_now(session) + timedelta(seconds=31)
        due = select(Job.id).where(Job.status == RUNNING, Job.lease_expires_at < ends)
        assert session.scalars(due).all() == [dead.job_id]
