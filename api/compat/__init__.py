"""APIs of other services, for users' existing clients. No module needs another one.

A module has `PREFIX`, the first part of its paths, `router`, and `render`, which formats errors for these
clients.
"""

from fastapi import Depends, FastAPI

from api.compat import hugging_face, openai
from api.http import problems
from api.middleware.auth import bearer_scheme


def install(app: FastAPI) -> None:
    """Install all modules of this folder. Their routes and errors are not in the OpenAPI document."""
    for module in (hugging_face, openai):
        problems.DIALECTS[module.PREFIX] = module.render
        app.include_router(module.router, dependencies=[Depends(bearer_scheme)], include_in_schema=False)
