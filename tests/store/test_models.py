import pytest

from core.store import jobs, models
from core.store.errors import InvalidCursor, ModelNotFound
from core.store.session import Database
from tests.store.samples import OWNER, claimed, job_of, new_job, new_model, publish


def test_pages_get_and_delete(database: Database) -> None:
    made = []
    for name in ("a", None, "c"):
        model = new_model(name=name)
        assert publish(database, claimed(database, new_job(database)), model)
        made.append(model.id)
    with database.read() as session:
        page, more = models.list_page(session, owner=OWNER, limit=2)
        assert ([m.id for m in page], more) == (made[:0:-1], True)
        page, more = models.list_page(session, owner=OWNER, limit=2, after=page[-1].id)
        assert ([m.id for m in page], more) == (made[:1], False)
        assert models.get(session, made[0], owner=OWNER).name == "a"
        with pytest.raises(InvalidCursor):
            models.list_page(session, owner=OWNER, limit=2, after="mdl_none")

    with database.write() as session:
        gone = models.delete(session, made[0], owner=OWNER)
    assert (gone.id, gone.weights_key) == (made[0], "models/x/weights")
    with database.write() as session:
        with pytest.raises(ModelNotFound):
            models.get(session, made[0], owner=OWNER)
        with pytest.raises(ModelNotFound):
            models.delete(session, made[0], owner=OWNER)


def test_a_model_outlives_its_job_and_a_job_its_model(database: Database) -> None:
    first, second = new_job(database), new_job(database)
    kept, gone = new_model(), new_model()
    assert publish(database, claimed(database, first), kept)
    assert publish(database, claimed(database, second), gone)
    with database.write() as session:
        jobs.delete(session, first, owner=OWNER)
        models.delete(session, gone.id, owner=OWNER)
    with database.read() as session:
        assert models.get(session, kept.id, owner=OWNER).job_id == first
    assert job_of(database, second).model_id == gone.id
