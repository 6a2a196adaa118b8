import pytest

from core.store.db.session import Database
from core.store.errors import ModelNotFound
from core.store.registry import models
from tests.core.store.samples import OWNER, new_owner, published, resolved


def test_versions_of_a_name_are_numbered_for_each_owner(database: Database) -> None:
    new_owner(database, "other")
    shoes = [published(database, "shoes") for _ in range(3)]
    boots, theirs, nameless = (
        published(database, "boots"),
        published(database, "shoes", owner="other"),
        published(database),
    )
    assert [resolved(database, model).version for model in shoes] == [1, 2, 3]
    assert (resolved(database, boots).version, resolved(database, nameless).version) == (1, None)
    assert resolved(database, theirs, owner="other").version == 1
    assert resolved(database, "shoes").id == resolved(database, "shoes@latest").id == shoes[2]
    assert resolved(database, "shoes@2").id == shoes[1]
    assert resolved(database, "shoes", owner="other").id == theirs


def test_a_number_is_never_used_again(database: Database) -> None:
    first, second = published(database, "shoes"), published(database, "shoes")
    with database.write() as session:
        models.delete(session, "shoes@2", owner=OWNER)
    assert resolved(database, "shoes").id == first
    third = published(database, "shoes")
    assert resolved(database, third).version == 3
    with database.write() as session:
        for reference in (first, third):
            models.delete(session, reference, owner=OWNER)
    with database.read() as session, pytest.raises(ModelNotFound):
        models.resolve(session, "shoes", owner=OWNER)
    assert resolved(database, published(database, "shoes")).version == 4
    with database.read() as session, pytest.raises(ModelNotFound):
        models.resolve(session, second, owner=OWNER)


def test_references_to_no_model(database: Database) -> None:
    published(database, "shoes")
    tags = ("", "0", "01", "2", "99999999999", "prod", "1@1", "1 ", "-1", "²", "a/b")
    others = (
        "",
        "@",
        "@1",
        "shoes:1",
        "SHOES",
        "shoes\0",
        "mdl_",
        "mdl_x@1",
        "stock",
        "stock:shoes",
        "\ud800",
    )
    for reference in (*(f"shoes@{tag}" for tag in tags), *others, "x" * 9_000):
        with database.read() as session, pytest.raises(ModelNotFound, match="GET /models lists"):
            models.resolve(session, reference, owner=OWNER)
