"""Output of a command that works on the database."""

import json
import sys
from collections.abc import Callable
from typing import Any

from core.errors import ClipCiteError
from core.store.db.session import Database


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
