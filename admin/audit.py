"""`clipcite audit`: the log of changes."""

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from admin.installation import AsJson, Data, database_of, settings_of, shown_time
from clipcite.cli.connection import stdout
from clipcite.cli.render.tables import print_table, table_of
from clipcite.datasets.image import printable
from core.store.accounts.audit import DONE, list_newest
from core.store.db.tables import AuditEntry
from core.store.db.text import utc_text

FIELDS = ("owner", "key_id", "request_id", "action", "object", "outcome", "address")


def audit(
    owner: Annotated[str | None, typer.Option(help="Only changes to objects of this owner.")] = None,
    object: Annotated[str | None, typer.Option(help="Only changes to this id, name or alias.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries, the newest ones.")] = 100,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List the changes: who, when, from where.

    Entries are kept for a year, or for CLIPCITE_KEEP_DAYS if that is less.
    """
    with database_of(settings_of(data)) as database, database.read() as session:
        rows = list_newest(session, limit=limit, owner=owner, object=object)
    if as_json:
        print(json.dumps([_entry(row) for row in rows]))
        return
    table = table_of("Time", "Owner", "Key", "Action", "Object", "From")
    for row in rows:
        done = row.action + ("" if row.outcome == DONE else f" ({row.outcome})")
        cells = (shown_time(row.at), row.owner, row.key_id, done, row.object, row.address or "this machine")
        # An object or an address may hold markup, or sequences that control the terminal.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    print_table(stdout(), table)


def _entry(row: AuditEntry) -> dict[str, Any]:
    return {"at": utc_text(row.at, "milliseconds"), **{name: getattr(row, name) for name in FIELDS}}
