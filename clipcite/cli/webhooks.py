"""`clipcite webhooks`: deliveries of a job, the secret that signs them, and a test message."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Key, Url, connected, print_json, stdout
from clipcite.cli.jobs import Id
from clipcite.cli.operator import Webhooks
from clipcite.cli.references import find_job
from clipcite.cli.render.tables import print_table, table_of

webhooks = typer.Typer(cls=Webhooks, help="Webhooks: deliveries, secret and test.", no_args_is_help=True)


@webhooks.command("list")
def list_deliveries(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the deliveries of a job, oldest first."""
    with connected(url, key) as client:
        shown = client.jobs.deliveries(find_job(client, id))
    if as_json:
        print_json([delivery.raw for delivery in shown])
        return
    table = table_of("ID", "Message", "Status", "Attempts", "Last result")
    for delivery in shown:
        result = str(delivery.reason or delivery.response_status or "")
        table.add_row(delivery.id, delivery.type, delivery.status, str(delivery.attempts), escape(result))
    print_table(stdout(), table)


@webhooks.command()
def redeliver(
    id: Id,
    delivery: Annotated[
        str, typer.Argument(metavar="DELIVERY", help="ID of the delivery, from `clipcite webhooks list`.")
    ],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send a delivery once more.

    The receiver sees the same webhook-id as before.
    """
    with connected(url, key) as client:
        sent = client.jobs.redeliver(find_job(client, id), delivery)
    if as_json:
        print_json(sent.raw)
    else:
        stdout().print(f"{sent.id} ({sent.type}) will be sent within seconds.")
