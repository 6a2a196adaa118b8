"""`clipcite webhooks`: deliveries of a job, the secret that signs them, and a test message."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, print_json, stdout
from clipcite.cli.jobs import Id, find_job
from clipcite.cli.processes import KEYTOOL, WEBHOOK_TEST, run_json
from clipcite.cli.render.tables import print_table
from clipcite.client.types import WebhookDelivery

webhooks = typer.Typer(help="Webhooks: deliveries, secret and test.", no_args_is_help=True)
Owner = Annotated[str, typer.Option(help="Owner of the jobs.")]
Data = Annotated[Path | None, typer.Option(help="Data folder of `clipcite serve` (default: CLIPCITE_DATA).")]


@webhooks.command("list")
def list_deliveries(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the deliveries of a job, oldest first."""
    with connected(url, key) as client:
        shown = client.jobs.deliveries(find_job(client, id))
    if as_json:
        print_json([delivery.raw for delivery in shown])
        return
    columns = [Column(name, no_wrap=True) for name in ("ID", "Message", "Status", "Attempts", "Last result")]
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for delivery in shown:
        table.add_row(
            delivery.id, delivery.type, delivery.status, str(delivery.attempts), escape(_result(delivery))
        )
    print_table(stdout(), table)


def _result(delivery: WebhookDelivery) -> str:
    return delivery.reason or ("" if delivery.response_status is None else str(delivery.response_status))


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


@webhooks.command("test")
def send_test(
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the receiver.")],
    owner: Owner = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Data = None,
) -> None:
    """Send a signed test message to a URL.

    Exits with status 1 if the receiver does not accept it.
    """
    sent = run_json(WEBHOOK_TEST, [f"--owner={owner}", "--", url], data)
    if as_json:
        print(json.dumps(sent))
    elif sent["delivered"]:
        print(f"{sent['id']} (webhook.test) was accepted with status {sent['status']}.")
    else:
        typer.echo(f"{sent['id']} (webhook.test) was not accepted: the receiver {sent['reason']}.", err=True)
    if not sent["delivered"]:
        raise typer.Exit(Exit.FAILED)


@webhooks.command()
def secret(
    owner: Owner = "default",
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="Create a new secret. For 24 hours the old one remains valid, too."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Data = None,
) -> None:
    """Print the webhook secret of an owner.

    The secret (`whsec_…`) is created on first use.
    """
    found = run_json(KEYTOOL, ["webhook-secret", f"--owner={owner}", *(["--rotate"] if rotate else [])], data)
    print(json.dumps(found) if as_json else found["secret"])
