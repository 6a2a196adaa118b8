"""APIs of other services, for users' existing clients. The modules do not depend on each other.

Each module defines `PREFIX` (the first part of its paths), `router`, and `render` (which formats errors for
these clients).
"""

from fastapi import Depends, FastAPI

from api.compat import openai
from api.http import problems
from api.middleware.auth import bearer_scheme


def install(app: FastAPI) -> None:
    """Install the modules of this folder. Their routes and errors are not in the OpenAPI document."""
    problems.DIALECTS[openai.PREFIX] = openai.render
    app.include_router(openai.router, dependencies=[Depends(bearer_scheme)], include_in_schema=False)
