"""Messages that a classification with a key sends to the database."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from core.store.db import client_timeout
from core.store.db.session import Database
from tests.api import crafted
from tests.api.service import Service, assert_problem
from tests.core.serving.adapted import publish_model


def classify(service: Service, model: str) -> Any:
    files = [("images", ("a.jpg", crafted.jpeg()))]
    return service.client.post("/classify", data={"class_names": ["fox", "oak"], "model": model}, files=files)


def test_a_keyed_classification_sends_two_messages(
    either: Service, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_timeout, "FRESH_SECONDS", 600)  # As on a busy service, on a slow machine too.
    with either.database.write() as session:
        made = api_keys.create(session, owner="default")
    either.client.headers["Authorization"] = f"Bearer {made.key}"
    model = publish_model(either.database, either.blobs, backbone)
    assert classify(either, model).status_code == 200  # Loads the model, and records the use of the key.
    either.app.state.last_use.flush()
    counted = count_messages(either.database, tmp_path / "trace")
    for _ in range(3):
        assert classify(either, model).status_code == 200
    assert counted() == 3 * 2
    with either.database.write() as session:
        api_keys.revoke(session, made.row.id)
    assert_problem(classify(either, model), 401, "key_revoked")  # At once.


def count_messages(database: Database, file: Path) -> Any:
    """Return a function that gives the number of round trips from now on: as libpq sees them, or SQLite's
    statements.
    """
    statements: list[str] = []
    traced = set[int]()
    output = file.open("w")
    lock = threading.Lock()

    def checkout(connection: Any, *_: Any) -> None:
        with lock:
            if id(connection) not in traced:
                traced.add(id(connection))
                connection.pgconn.trace(output.fileno())

    def execute(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    is_postgres = database.engine.dialect.name == "postgresql"
    if is_postgres:
        event.listen(database.engine, "checkout", checkout)
    else:
        event.listen(database.engine, "before_cursor_execute", execute)

    def count() -> int:
        if not is_postgres:
            return sum(not statement.startswith("BEGIN") for statement in statements)
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        return sum(fields[1] == "F" and fields[3] in {"Query", "Sync"} for fields in lines if len(fields) > 3)

    return count
