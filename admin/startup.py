"""`python -m admin.startup`: run checks and create the tables before `clipcite serve` starts a process.

A permanent problem ends the start with one sentence. No model is loaded. With the argument `later`, request
the download of a new backbone and print its name.
"""

import sys

from pydantic import ValidationError

from admin.doctor import problems_of, start_problem
from api.startup import prepare_token, startup_error
from core.clip.config import STARTER
from core.clip.models import backbones
from core.errors import ExpectedError
from core.settings import get_settings
from core.store import backbones as store
from core.store.db import migrate
from core.store.db.session import Database, unavailability


def main() -> str | None:
    """Return why the service must not start, or None if it may."""
    try:
        settings = get_settings()
    except ValidationError as error:
        return " ".join(problems_of(error))
    try:
        with unavailability():
            migrate.upgrade(settings.sqlalchemy_url())
        problem = startup_error(settings) or start_problem(settings)
        if problem is None:
            prepare_token(settings)
            name = settings.backbone
            here = name == STARTER or name.startswith("local-dir:") or backbones.read(name, settings.cache)
            if "later" in sys.argv and not here:
                with Database(settings.sqlalchemy_url()).write() as session:
                    store.request_pull(session, name, use=True)
                print(name)
    except ExpectedError as error:
        return error.detail
    except OSError as error:
        return f"The token can't be written to {settings.data}: {error.strerror}. Use another --data."
    return problem


if __name__ == "__main__":
    sys.exit(main())
