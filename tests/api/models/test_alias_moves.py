"""Aliases: promotion and rollback, and refusal of unknown targets."""

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import IntegrityError

from api.models import aliases
from api.models.aliases import Pointer
from core.store.db.session import Database
from core.store.db.tables import AliasMove, Model
from core.store.errors import Conflict
from core.store.registry import models
from tests.core.store.samples import OWNER, published, resolved


def promote(database: Database, reference: str, alias: str = "prod") -> Pointer:
    with database.write() as session:
        return aliases.move_to(session, "shoes", alias, reference, owner=OWNER)


def rollback(database: Database) -> Pointer:
    with database.write() as session:
        return aliases.move_back(session, "shoes", "prod", owner=OWNER)


def moves(pointer: Pointer) -> list[tuple[int, str, int]]:
    return [(move.revision, move.action, move.version) for move in pointer.moves]


@pytest.fixture
def shoes(database: Database) -> list[str]:
    """Return the ids of three versions."""
    return [published(database, "shoes") for _ in range(3)]


def test_promote_and_roll_back(database: Database, shoes: list[str]) -> None:
    for number, reference in enumerate(("shoes@1", shoes[1], "shoes")):
        pointer = promote(database, reference)
        assert (pointer.model.id, pointer.alias.revision) == (shoes[number], number + 1)
        assert resolved(database, "shoes@prod").id == shoes[number]
    assert moves(promote(database, "shoes@prod")) == moves(pointer)  # The alias already points there.
    assert rollback(database).model.id == shoes[1]
    assert rollback(database).model.id == resolved(database, "shoes@prod").id == shoes[0]
    with pytest.raises(Conflict, match="no earlier model") as refused:
        rollback(database)
    assert refused.value.code == "nothing_to_roll_back"
    pointer = promote(database, "shoes@3")
    assert moves(pointer) == [
        (6, "promoted", 3),
        (5, "rolled_back", 1),
        (4, "rolled_back", 2),
        (3, "promoted", 3),
        (2, "promoted", 2),
        (1, "promoted", 1),
    ]
    assert rollback(database).model.id == shoes[0]  # A rolled-back promotion does not return.


def test_a_model_that_an_alias_points_to(database: Database, shoes: list[str]) -> None:
    promote(database, "shoes@1")
    promote(database, "shoes@1", "staging")
    for act in (models.delete, lambda *a, **b: models.rename(*a, "boots", **b)):
        with (
            database.write() as session,
            pytest.raises(
                Conflict, match=r"shoes@prod and shoes@staging point to the model.*Promote"
            ) as refused,
        ):
            act(session, shoes[0], owner=OWNER)
        assert refused.value.code == "model_has_aliases"
    with database.write() as session:
        assert models.rename(session, shoes[0], "shoes", owner=OWNER).version == 1
    # The foreign key would prevent the deletion as well.
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(delete(Model).where(Model.id == shoes[0]))
    promote(database, "shoes@2")
    with database.write() as session:
        gone = models.delete(session, shoes[0], owner=OWNER, force=True)
    assert gone.id == shoes[0]
    with database.read() as session:
        (left,) = aliases.list_pointers(session, "shoes", owner=OWNER)
        assert moves(left) == [(2, "promoted", 2), (1, "promoted", 1)]
        assert session.execute(text("SELECT count(*) FROM alias_moves")).scalar_one() == 2
    with pytest.raises(Conflict, match=r"shoes@1.*deleted or renamed") as refused:
        rollback(database)
    assert refused.value.code == "rollback_target_gone"
    assert resolved(database, "shoes@prod").id == shoes[1]


def test_rollback_to_a_renamed_model(database: Database, shoes: list[str]) -> None:
    promote(database, "shoes@1")
    promote(database, "shoes@2")
    with database.write() as session:
        models.rename(session, "shoes@1", "boots", owner=OWNER)
    with pytest.raises(Conflict, match="deleted or renamed"):
        rollback(database)


def test_an_alias_keeps_its_last_moves(
    database: Database, shoes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated moves do not fill the disk, and a rollback beyond them is refused."""
    monkeypatch.setattr(aliases, "MAX_MOVES", 4)
    for number in range(8):
        promote(database, shoes[number % 2])
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AliasMove)) == 4
    rollback(database)
    with pytest.raises(Conflict, match="has no earlier model"):
        [rollback(database) for _ in range(3)]
