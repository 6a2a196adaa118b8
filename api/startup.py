"""Check of whether the service may start with its settings, and the token of a service without keys."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from api.middleware.auth import is_loopback
from core.settings import Settings
from core.store.accounts import api_keys, local_token
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable


def startup_error(settings: Settings) -> str | None:
    """Return why the service must not start with these settings, or None if it may."""
    if settings.admin_key is not None and len(settings.admin_key.get_secret_value()) < 16:
        return (
            "CLIPCITE_ADMIN_KEY has fewer than 16 characters. Use a longer key, for example the output of "
            "`openssl rand -hex 32`."
        )
    if (
        settings.admin_key is None
        and not settings.require_token
        and not is_loopback(settings.host)
        and not _ask(settings, api_keys.any_good)
    ):
        return (
            f"Without a key and a token the service listens on this machine only, not on {settings.host}. "
            "Leave out --no-token (or CLIPCITE_REQUIRE_TOKEN=false), create a key with `clipcite keys "
            "create`, or use --host 127.0.0.1."
        )
    return None


def prepare_token(settings: Settings) -> None:
    """Create the token if it is needed, else delete it."""
    if settings.admin_key is None and settings.require_token and not _ask(settings, api_keys.any_made):
        local_token.ensure(settings.data)
    else:
        local_token.discard(settings.data)


def _ask(settings: Settings, question: Callable[[Session], bool]) -> bool:
    database = Database(settings.sqlalchemy_url())
    try:
        database.check()
        with database.read() as session:
            return question(session)
    except DatabaseUnavailable:
        return False
    finally:
        database.close()
