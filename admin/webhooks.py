"""`clipcite webhooks secret` and `test`: the secret that signs webhooks, and a test message."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from admin.installation import AsJson, Data, database_of, settings_of
from core.store.accounts import owners
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.text import utc_text
from worker.dispatcher.webhooks import DeliveryFailed, send

Owner = Annotated[str, typer.Option(help="Owner of the jobs.")]
TYPE = "webhook.test"
webhooks = typer.Typer(help="Webhooks: secret and test message.", no_args_is_help=True)


@webhooks.command("test")
def send_test(
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the receiver.")],
    owner: Owner = DEFAULT_OWNER,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Send a signed test message to a URL.

    Exits with status 1 if the receiver does not accept it.
    """
    settings = settings_of(data)
    message_id = new_id("msg")
    with database_of(settings) as database, database.write() as session:
        key = owners.webhook_secret(session, owner)
    content = {"id": message_id, "object": "test"}
    body = {"type": TYPE, "timestamp": utc_text(datetime.now(UTC)), "data": content}
    sent: dict[str, Any] = {"id": message_id, "delivered": True, "status": None, "reason": None}
    try:
        sent["status"] = send(url, message_id, body, key, allow_private=settings.webhook_allow_private)
    except DeliveryFailed as failed:
        sent |= {"delivered": False, "reason": str(failed)}
    if as_json:
        print(json.dumps(sent))
    elif sent["delivered"]:
        print(f"{message_id} ({TYPE}) was accepted with status {sent['status']}.")
    else:
        typer.echo(
            f"{message_id} ({TYPE}) was not accepted: the receiver {sent['reason']}. Check the URL and "
            "the receiver's log, then run the command again.",
            err=True,
        )
    if not sent["delivered"]:
        raise typer.Exit(1)


@webhooks.command()
def secret(
    owner: Owner = DEFAULT_OWNER,
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="Replace the secret. The old one no longer signs."),
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Print the secret that signs webhooks."""
    settings = settings_of(data)
    with database_of(settings) as database, database.write() as session:
        found = owners.webhook_secret(session, owner, replace=rotate)
    print(json.dumps({"owner": owner, "secret": found}) if as_json else found)
