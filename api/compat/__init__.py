"""APIs of other services, for users' existing clients. Each module can be deleted alone.

A module has `PREFIX`, the first part of its paths, `router`, and `render`, which formats errors for these
clients. May import every resource of `api`.
"""

import pkgutil
from importlib import import_module

from fastapi import Depends, FastAPI

from api.http import problems
from api.middleware.auth import bearer_scheme


def install(app: FastAPI) -> None:
    """Install all modules of this folder. Their routes and errors are not in the OpenAPI document."""
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        problems.DIALECTS[module.PREFIX] = module.render
        app.include_router(module.router, dependencies=[Depends(bearer_scheme)], include_in_schema=False)
