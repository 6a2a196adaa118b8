"""Keys of a service, and requests with one."""

from typing import Any

import httpx

from api.middleware.auth import AuthMiddleware
from core.store.accounts import api_keys
from core.store.db.session import Database
from tests.api.service import Service

KEY = "correct horse battery staple"
NEVER = "cc_" + "A" * 43


def make(database: Database, owner: str = "team", **given: Any) -> api_keys.NewKey:
    with database.write() as session:
        return api_keys.create(session, owner=owner, **given)


def get(service: Service, key: str | None, path: str = "/jobs", **given: Any) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return service.client.get(path, headers=headers, **given)


def auth_of(service: Service) -> AuthMiddleware:
    """Return the application's middleware, which is built at the first request."""
    layer: Any = service.app.middleware_stack or service.app.build_middleware_stack()
    while not isinstance(layer, AuthMiddleware):
        layer = layer.app
    return layer
