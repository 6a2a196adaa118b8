"""Send a test message to a webhook: `python -m worker.dispatcher.webhook_test URL [--owner OWNER]`.

Prints the result as JSON. `clipcite webhooks test` presents it to people.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from core.settings import get_settings
from core.store.accounts import audit
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.admin import print_answer
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.db.text import utc_text
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Delivery
from worker.dispatcher.webhook_sender import DeliveryFailed, send

TYPE = "webhook.test"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="worker.dispatcher.webhook_test", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--owner", default=DEFAULT_OWNER)
    options = parser.parse_args(arguments)
    settings = get_settings()

    def answer(database: Database) -> dict[str, Any]:
        database.check()
        message_id = new_id("msg")
        with database.write() as session:
            deliveries.secret(session, options.owner)
            at = datetime.now(UTC)
            secrets = [row.secret for row in deliveries.valid_secrets(session, options.owner, at)]
            audit.record(session, TYPE, message_id, owner=options.owner)
        body = {"type": TYPE, "timestamp": utc_text(at), "data": {"id": message_id, "object": "test"}}
        delivery = Delivery(message_id, "", options.owner, options.url, body, 1, secrets)
        try:
            status = send(delivery, allow_private=settings.webhook_allow_private)
        except DeliveryFailed as failed:
            return {"id": message_id, "delivered": False, "status": failed.status, "reason": failed.reason}
        return {"id": message_id, "delivered": True, "status": status, "reason": None}

    return print_answer(settings.sqlalchemy_url(), answer)


if __name__ == "__main__":
    sys.exit(main())
