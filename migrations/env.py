"""Alembic's environment, for its command line (`[tool.alembic]`) and core.store.db.migrate."""

from alembic import context
from sqlalchemy import Connection

from core.settings import get_settings
from core.store.db.migrate import migrating
from core.store.db.tables import METADATA


def run(connection: Connection) -> None:
    """Run the migrations on a connection."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=True,  # SQLite changes a table by copying it
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def print_sql() -> None:
    """Print the migrations as SQL."""
    context.configure(
        url=get_settings().sqlalchemy_url(),
        target_metadata=METADATA,
        literal_binds=True,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
elif (existing := context.config.attributes.get("connection")) is not None:
    run(existing)
else:
    with migrating(get_settings().sqlalchemy_url()) as connection:
        run(connection)
