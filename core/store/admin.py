"""`python -m core.store.admin`: keys made, listed and revoked in the database itself, so that no key
is needed to make the first; and the secrets of webhooks. Answers in JSON; `clipcite keys` and `clipcite
webhooks` show it to people."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from core.errors import ClipCiteError
from core.settings import get_settings
from core.store.accounts import api_keys
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import ApiKey
from core.store.webhooks import deliveries


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    url = get_settings().sqlalchemy_url()

    def answer(database: Database) -> Any:
        if given.do in {create, webhook_secret} and _is_new_file(url):
            migrate.upgrade(url)  # keys come before the first start, off loopback
        database.check()
        return given.do(database, given)

    return print_answer(url, answer)


def print_answer(url: str, answer: Callable[[Database], Any]) -> int:
    """Print the answer as JSON, or the error for a person. Return the exit status."""
    database = Database(url)
    try:
        found = answer(database)
    except ClipCiteError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    finally:
        database.close()
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


def create(database: Database, given: argparse.Namespace) -> dict[str, Any]:
    lifetime = None if given.days is None else timedelta(days=given.days)
    with database.write() as session:
        made = api_keys.create(
            session,
            owner=given.owner,
            scopes=given.scope or [api_keys.CLASSIFY, api_keys.ADAPT],
            name=given.name,
            lifetime=lifetime,
        )
    return {**_shown(made.row), "key": made.key}


def list_keys(database: Database, given: argparse.Namespace) -> list[dict[str, Any]]:
    with database.read() as session:
        return [_shown(row) for row in api_keys.list_all(session, given.owner)]


def revoke(database: Database, given: argparse.Namespace) -> dict[str, Any]:
    with database.write() as session:
        return _shown(api_keys.revoke(session, given.id))


def webhook_secret(database: Database, given: argparse.Namespace) -> dict[str, Any]:
    with database.write() as session:
        row = deliveries.secret(session, given.owner, rotate=given.rotate)
    return {"owner": row.owner, "secret": row.secret, "created_at": row.created_at.isoformat("T", "seconds")}


def _is_new_file(url: str) -> bool:
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()


def _shown(row: ApiKey) -> dict[str, Any]:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    times = {name: getattr(row, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "id": row.id,
        "prefix": row.prefix,
        "owner": row.owner,
        "name": row.name,
        "scopes": row.scopes,
        "state": "revoked" if row.revoked_at else "expired" if expired else "good",
        **{name: at and at.isoformat(timespec="seconds") for name, at in times.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="core.store.admin", description="API keys, and the secrets of webhooks."
    )
    verbs = parser.add_subparsers(required=True)
    making = verbs.add_parser("create")
    making.add_argument("--owner", default=DEFAULT_OWNER)
    making.add_argument("--scope", action="append", choices=api_keys.SCOPES)
    making.add_argument("--name")
    making.add_argument("--days", type=int, choices=range(1, 36_501), metavar="1..36500")
    making.set_defaults(do=create)
    listing = verbs.add_parser("list")
    listing.add_argument("--owner")
    listing.set_defaults(do=list_keys)
    revoking = verbs.add_parser("revoke")
    revoking.add_argument("id")
    revoking.set_defaults(do=revoke)
    showing = verbs.add_parser("webhook-secret")
    showing.add_argument("--owner", default=DEFAULT_OWNER)
    showing.add_argument("--rotate", action="store_true")
    showing.set_defaults(do=webhook_secret)
    return parser


if __name__ == "__main__":
    sys.exit(main())
