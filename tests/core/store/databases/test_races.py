"""Races on real databases with real threads."""

from collections import Counter

from sqlalchemy import func, select

from api.models import aliases
from core.store.db.session import Database
from core.store.db.tables import Job, Model
from core.store.errors import Conflict, ModelNotFound, NotFound
from core.store.jobs import fair_queue, lifecycle
from core.store.registry import models
from tests.core.store.races import at_once
from tests.core.store.samples import (
    OWNER,
    claimed,
    expire,
    job_of,
    let_lease_expire,
    new_job,
    new_model,
    publish,
    types_of,
)

ROUNDS = 15


def test_one_of_many_claims_wins(database: Database) -> None:
    def claim(job_id: str) -> bool:
        with database.write() as session:
            return lifecycle.claim(session, job_id, worker="w", lease_seconds=30) is not None

    for _ in range(ROUNDS):
        job_id = new_job(database)
        assert sum(at_once(*[lambda job_id=job_id: claim(job_id)] * 4)) == 1
        assert types_of(database, job_id) == ["queued", "started"]
        assert job_of(database, job_id).attempts == 1


def test_cancel_and_publish_leave_one_final_state(database: Database) -> None:
    def cancel(job_id: str) -> None:
        with database.write() as session:
            lifecycle.request_cancel(session, job_id, owner=OWNER)

    def stop_or_publish(claim: lifecycle.Claim) -> bool:
        with database.write() as session:
            stop = lifecycle.renew_lease(session, claim, lease_seconds=30, progress=None)
        if not stop:
            return publish(database, claim)
        with database.write() as session:
            assert lifecycle.finish_cancelled(session, claim)
        return False

    ends: Counter[str] = Counter()
    for _ in range(ROUNDS):
        job_id = new_job(database)
        claim = claimed(database, job_id)
        at_once(lambda: cancel(job_id), lambda: stop_or_publish(claim))  # noqa: B023
        status = job_of(database, job_id).status
        ends[status] += 1
        assert status in {"succeeded", "cancelled"}
        assert sum(t in {"succeeded", "cancelled"} for t in types_of(database, job_id)) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == ends["succeeded"]


def test_lease_expiry_and_publish_leave_one_winner(database: Database) -> None:
    for _ in range(ROUNDS):
        job_id = new_job(database)
        claim = claimed(database, job_id)
        let_lease_expire(database, job_id)
        published, expired = at_once(
            lambda: publish(database, claim),  # noqa: B023
            lambda: expire(database),
        )
        status = job_of(database, job_id).status
        assert (published, expired, status) in [(True, [], "succeeded"), (False, ["queued"], "queued")]
        with database.write() as session:
            if status == "queued":
                lifecycle.delete(session, job_id, owner=OWNER)


def test_delete_and_claim_leave_one_winner(database: Database) -> None:
    def delete(job_id: str) -> None:
        with database.write() as session:
            lifecycle.delete(session, job_id, owner=OWNER)

    def claim(job_id: str) -> lifecycle.Claim | None:
        with database.write() as session:
            return lifecycle.claim(session, job_id, worker="w", lease_seconds=30)

    for _ in range(ROUNDS):
        job_id = new_job(database)
        refused, taken = at_once(lambda: delete(job_id), lambda: claim(job_id))  # noqa: B023
        assert isinstance(refused, Conflict) == (taken is not None)


def test_dispatchers_take_disjoint_jobs(database: Database) -> None:
    made = [new_job(database) for _ in range(24)]

    def take() -> list[str]:
        taken: list[str] = []
        for _ in range(8):
            with database.write() as session:
                taken += fair_queue.take_due(session, redispatch_seconds=60, ahead=24)
        return taken

    taken = [job_id for each in at_once(take, take, take) for job_id in each]
    assert sorted(taken) == made


def test_two_dispatchers_expire_a_lease_once(database: Database) -> None:
    for _ in range(ROUNDS):
        job_id = new_job(database)
        claimed(database, job_id)
        let_lease_expire(database, job_id)
        assert sorted(map(len, at_once(lambda: expire(database), lambda: expire(database)))) == [0, 1]
        assert types_of(database, job_id) == ["queued", "started", "requeued"]
        with database.write() as session:
            lifecycle.delete(session, job_id, owner=OWNER)


def test_contending_writers_neither_fail_nor_lose_a_write(database: Database) -> None:
    """Each thread reads, changes and writes fifty times. Deferred transactions mostly fail on SQLite,
    immediately.
    """
    job_id = new_job(database)
    claim = claimed(database, job_id)

    def add() -> None:
        for _ in range(50):
            with database.write() as session:
                progress = session.scalars(
                    select(Job.progress).where(Job.id == job_id).with_for_update()
                ).one()
                count = (progress or {}).get("step", 0)
                lifecycle.renew_lease(session, claim, lease_seconds=30, progress={"step": count + 1})

    at_once(*[add] * 4)
    assert job_of(database, job_id).progress == {"step": 200}


def test_events_of_concurrent_transitions_are_numbered_without_gap(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)

    def warn(name: str) -> None:
        for number in range(5):
            with database.write() as session:
                assert lifecycle.record_warning(session, claim, name, str(number))

    at_once(*[lambda name=name: warn(name) for name in "abc"])
    assert types_of(database, job_id) == ["queued", "started", *["warning"] * 15]
    assert len(job_of(database, job_id).warnings) == 15


def test_a_model_is_published_once_by_a_claim(database: Database) -> None:
    for _ in range(ROUNDS):
        claim = claimed(database, new_job(database))
        both = [lambda: publish(database, claim, new_model())] * 2  # noqa: B023
        assert sorted(at_once(*both)) == [False, True]


# --- names, versions and aliases ---


def versions(database: Database) -> list[int | None]:
    with database.read() as session:
        return sorted(session.scalars(select(Model.version).where(Model.name == "shoes")))


def shoe(database: Database) -> str:
    model = new_model(name="shoes")
    assert publish(database, claimed(database, new_job(database)), model)
    return model.id


def test_publications_and_renamings_share_the_numbers(database: Database) -> None:
    boots = []
    for _ in range(6):
        model = new_model(name="boots")
        assert publish(database, claimed(database, new_job(database)), model)
        boots.append(model.id)

    def rename(ids: list[str]) -> None:
        for model_id in ids:
            with database.write() as session:
                models.rename(session, model_id, "shoes", owner=OWNER)

    def make() -> None:
        for _ in range(6):
            shoe(database)

    at_once(lambda: rename(boots[:3]), lambda: rename(boots[3:]), make, make)
    assert versions(database) == list(range(1, 19))


def test_promotion_and_deletion_leave_no_alias_without_a_model(database: Database) -> None:
    kept = shoe(database)

    def promote(model_id: str) -> None:
        with database.write() as session:
            aliases.move_to(session, "shoes", "prod", model_id, owner=OWNER)

    def delete(model_id: str, force: bool) -> None:
        with database.write() as session:
            models.delete(session, model_id, owner=OWNER, force=force)

    for number in range(ROUNDS):
        promote(kept)
        model_id, force = shoe(database), number % 2 == 1
        promoted, deleted = at_once(
            lambda: promote(model_id),  # noqa: B023
            lambda: delete(model_id, force),  # noqa: B023
        )
        with database.read() as session:
            pointing = [pointer.model.id for pointer in aliases.list_pointers(session, "shoes", owner=OWNER)]
            left = models.exists(session, model_id)
        if isinstance(promoted, ModelNotFound):  # The deletion was first.
            assert (deleted, pointing, left) == (None, [kept], False)
        elif force:
            assert (promoted, deleted, pointing, left) == (None, None, [], False)
        else:
            assert isinstance(deleted, Conflict)
            assert (promoted, pointing, left) == (None, [model_id], True)


def test_contending_moves_follow_one_another(database: Database) -> None:
    """Promotions and rollbacks run concurrently: the history has no gap, and the alias points to its end."""
    shoes = [shoe(database) for _ in range(4)]

    def promote(model_id: str) -> None:
        for _ in range(6):
            with database.write() as session:
                aliases.move_to(session, "shoes", "prod", model_id, owner=OWNER)

    def roll_back() -> None:
        for _ in range(6):
            try:
                with database.write() as session:
                    aliases.move_back(session, "shoes", "prod", owner=OWNER)
            except (NotFound, Conflict):
                pass  # There is no previous version.

    at_once(*[lambda m=m: promote(m) for m in shoes], roll_back)
    with database.read() as session:
        (pointer,) = aliases.list_pointers(session, "shoes", owner=OWNER)
    assert [move.revision for move in pointer.moves] == list(range(pointer.alias.revision, 0, -1))
    assert pointer.moves[0].model_id == pointer.model.id
    stack: list[str] = []
    for move in reversed(pointer.moves):
        if move.action == aliases.PROMOTED:
            assert [move.model_id] != stack[-1:]
            stack.append(move.model_id)
        else:
            stack.pop()
            assert stack[-1] == move.model_id
