"""Administration of API keys, webhook secrets and the audit log: `python -m core.store.admin`.

The commands work on the database directly, so that creating the first key needs no key. Their output is JSON.
`clipcite keys`, `webhooks` and `audit` present it to people.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, make_url, select

from core.errors import ClipCiteError
from core.settings import get_settings
from core.store import adoption
from core.store.accounts import api_keys, audit, local_token
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db import migrate
from core.store.db.session import Database, database_now
from core.store.db.tables import ApiKey, Model
from core.store.db.text import utc_text
from core.store.webhooks import deliveries

AUDIT_FIELDS = ("owner", "key_id", "request_id", "action", "object", "outcome", "address")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    url = get_settings().sqlalchemy_url()

    def answer(database: Database) -> Any:
        if options.do in {create, webhook_secret} and _is_new_file(url):
            migrate.upgrade(url)  # beyond loopback, keys must exist before the first start
        database.check()
        return options.do(database, options)

    return print_answer(url, answer)


def print_answer(url: str, answer: Callable[[Database], Any]) -> int:
    """Print the result of `answer` as JSON, or its error as text. Return the exit status."""
    database = Database(url)
    try:
        result = answer(database)
    except ClipCiteError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    finally:
        database.close()
    sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


def create(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Create a key. The result contains the key itself.

    `first` is true if the service had no key before. `hidden_models` counts the models of the owner
    `default`, which a key of another owner does not see.
    """
    lifetime = None if options.days is None else timedelta(days=options.days)
    with database.write() as session:
        first = not api_keys.any_made(session)
        of_default = select(func.count()).select_from(Model).where(Model.owner == DEFAULT_OWNER)
        hidden = 0 if options.owner == DEFAULT_OWNER else session.scalar(of_default)
        new = api_keys.create(
            session,
            owner=options.owner,
            scopes=options.scope or [api_keys.CLASSIFY, api_keys.ADAPT],
            name=options.name,
            lifetime=lifetime,
        )
        audit.record(session, "key.create", new.row.id, owner=new.row.owner)
    local_token.discard(get_settings().data)
    return {**_shown(new.row), "key": new.key, "first": first, "hidden_models": hidden}


def list_keys(database: Database, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the keys of an owner, or of all owners."""
    with database.read() as session:
        return [_shown(row) for row in api_keys.list_all(session, options.owner)]


def rotate(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Replace a key. The result contains the new key itself."""
    with database.write() as session:
        new = api_keys.rotate(session, options.id, overlap=timedelta(hours=options.overlap))
        audit.record(session, "key.rotate", new.row.id, owner=new.row.owner)
        return {**_shown(new.row), "key": new.key}


def revoke(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Revoke a key."""
    with database.write() as session:
        row, changed = api_keys.revoke(session, options.id)
        audit.record(session, "key.revoke", row.id, changed=changed, owner=row.owner)
        return _shown(row)


def adopt(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Give an owner's jobs and models to another owner."""
    with database.write() as session:
        adopted = adoption.adopt(session, options.source, options.to)
        audit.record(session, "owner.adopt", adopted.source, owner=adopted.target)
        return asdict(adopted)


def webhook_secret(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Show an owner's webhook secret, or replace it."""
    with database.write() as session:
        row = deliveries.secret(session, options.owner, rotate=options.rotate)
        audit.record(
            session,
            "webhook_secret.rotate" if options.rotate else "webhook_secret.show",
            row.id,
            owner=row.owner,
        )
    return {"owner": row.owner, "secret": row.secret, "created_at": row.created_at.isoformat("T", "seconds")}


def list_audit(database: Database, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List entries of the audit log, oldest first."""
    with database.read() as session:
        since = None if options.days is None else database_now(session) - timedelta(days=options.days)
        rows = audit.list_newest(
            session,
            limit=options.limit,
            owner=options.owner,
            action=options.action,
            object=options.object,
            key_id=options.key,
            request_id=options.request,
            since=since,
        )
        return [
            {
                "at": utc_text(row.at, "milliseconds"),
                **{name: getattr(row, name) for name in AUDIT_FIELDS},
            }
            for row in rows
        ]


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
        prog="core.store.admin", description="Manage API keys and webhook secrets."
    )
    commands = parser.add_subparsers(required=True)
    create_parser = commands.add_parser("create", help="Create a key.")
    create_parser.add_argument("--owner", default=DEFAULT_OWNER, help="Owner of the key.")
    create_parser.add_argument(
        "--scope", action="append", choices=api_keys.SCOPES, help="Scope of the key; repeatable."
    )
    create_parser.add_argument("--name", help="Name of the key, for a person.")
    create_parser.add_argument(
        "--days", type=int, choices=range(1, 36_501), metavar="1..36500", help="Lifetime (days)."
    )
    create_parser.set_defaults(do=create)
    list_parser = commands.add_parser("list", help="List keys.")
    list_parser.add_argument("--owner", help="Only keys of this owner.")
    list_parser.set_defaults(do=list_keys)
    rotate_parser = commands.add_parser("rotate", help="Replace a key.")
    rotate_parser.add_argument("id", help="Id or prefix of the key.")
    rotate_parser.add_argument(
        "--overlap", type=float, default=24, help="Hours in which both keys are valid."
    )
    rotate_parser.set_defaults(do=rotate)
    revoke_parser = commands.add_parser("revoke", help="Revoke a key.")
    revoke_parser.add_argument("id", help="Id or prefix of the key.")
    revoke_parser.set_defaults(do=revoke)
    adopt_parser = commands.add_parser("adopt", help="Give an owner's jobs and models to another owner.")
    adopt_parser.add_argument("--from", dest="source", default=DEFAULT_OWNER, help="Present owner.")
    adopt_parser.add_argument("--to", help="New owner.")
    adopt_parser.set_defaults(do=adopt)
    audit_parser = commands.add_parser("audit", help="List entries of the audit log.")
    for name in ("owner", "action", "object", "key", "request"):
        audit_parser.add_argument(f"--{name}")
    audit_parser.add_argument("--days", type=float)
    audit_parser.add_argument("--limit", type=int, default=100)
    audit_parser.set_defaults(do=list_audit)
    secret_parser = commands.add_parser("webhook-secret", help="Show an owner's webhook secret.")
    secret_parser.add_argument("--owner", default=DEFAULT_OWNER, help="Owner of the secret.")
    secret_parser.add_argument("--rotate", action="store_true", help="Replace the secret.")
    secret_parser.set_defaults(do=webhook_secret)
    return parser


if __name__ == "__main__":
    sys.exit(main())
