"""`clipcite webhooks secret` as an operator runs it."""

from pathlib import Path

from core.store.db.session import Database, database_now
from core.store.webhooks import deliveries
from tests.clipcite.cli.test_admin import call, data

__all__ = ["data"]


def test_the_secret_is_shown_and_replaced(data: Path) -> None:
    def shown(*options: str) -> str:
        done = call(data, "secret", *options, group="webhooks")
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    first = shown("--owner", "team-a")
    assert first.startswith("whsec_")
    second = shown("--owner", "team-a", "--rotate")
    assert second != first
    database = Database(f"sqlite:///{data / 'clipcite.db'}")
    with database.read() as session:
        good = deliveries.valid_secrets(session, "team-a", database_now(session))
    database.close()
    assert [row.secret for row in good] == [second, first]
