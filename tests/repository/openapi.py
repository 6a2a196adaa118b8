"""Write the OpenAPI document, for `make check-page`: `python -m tests.repository.openapi FILE`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from api.app import create_app
from core.settings import Settings


def document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data=Path(folder), cache=Path(folder)))
        try:
            return app.openapi()
        finally:
            app.state.database.close()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document()))
