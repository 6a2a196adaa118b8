"""`python -m api.startup`: check whether the service may start with the present settings.

`clipcite serve` runs this check before it starts any process. It loads no model. Without keys, it creates the
token.
"""

import sys

from api.middleware.auth import prepare_token, startup_error
from core.settings import get_settings


def main() -> str | None:
    settings = get_settings()
    problem = startup_error(settings)
    if problem is None:
        try:
            prepare_token(settings)
        except OSError as error:
            return f"The token can't be written to {settings.data}: {error.strerror}. Use another --data."
    return problem


if __name__ == "__main__":
    sys.exit(main())
