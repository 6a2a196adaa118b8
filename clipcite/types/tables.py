"""Tables as text."""

import csv
import io
import re
from collections.abc import Iterable


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV. An apostrophe precedes texts that a spreadsheet would take for a formula."""
    output = io.StringIO()
    table = csv.writer(output)
    for row in rows:
        table.writerow(re.sub(r"^(?=[=+\-@\t\r\n])", "'", str(cell)) for cell in row)
    return output.getvalue()
