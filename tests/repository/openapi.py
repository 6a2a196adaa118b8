"""Write the OpenAPI document, for `make check-page`: `python -m tests.repository.openapi FILE`."""

import json
import sys
import tempfile
from pathlib import Path

from api.app import create_app
from core.settings import Settings


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data=Path(folder), cache=Path(folder)))
        try:
            path.write_text(json.dumps(app.openapi()))
        finally:
            app.state.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
