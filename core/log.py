"""Logging as text or JSON: messages of this project, and warnings of libraries.

A context variable holds the request or the job of a line. In every line, secrets from the settings, API keys,
bearer tokens and webhook secrets are redacted.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from urllib.parse import unquote, urlsplit

from core.parent_watch import is_child
from core.settings import Settings

OURS = ("api", "worker", "core", "celery.worker", "celery.apps.worker", "uvicorn.error")
MAX_CHARACTERS = 10_000
"""Maximum length of a message or traceback. Some quote an image or a whole request."""
_BEARER = re.compile(r"(?i)(\bbearer\s+)[^\s'\",]+")
_KEY = re.compile(r"\bcc_[A-Za-z0-9_-]{43}")
"""An API key anywhere in the text, for example in a URL."""
_WEBHOOK_SECRET = re.compile(r"\bwhsec_[A-Za-z0-9+/=]+")

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))


def from_here(**ids: str) -> Token[Mapping[str, str]]:
    """Add a `request_id` or `job_id` to all later log lines of this task or thread.

    Threads that copy the context log the ids too, for example in `def` routes.
    """
    return _context.set({**_context.get(), **ids})


def current(name: str) -> str | None:
    """Return the id that `from_here` or `about` has set, or None."""
    return _context.get().get(name)


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Add a `request_id` or `job_id` to the log lines within this context."""
    token = from_here(**ids)
    try:
        yield
    finally:
        _context.reset(token)


def start_logging(settings: Settings) -> None:
    """Configure logging. Call this once, at the start of a process.

    Verbose libraries (open_clip, alembic, the access log) log only warnings.
    """
    handler = logging.StreamHandler()
    secrets = secrets_of(settings)
    # `clipcite serve` shows only warnings, as sentences.
    plain = is_child() and settings.log_level == "warning"
    handler.setFormatter(JsonLines(secrets) if settings.log == "json" else TextLines(secrets, plain=plain))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    if settings.log == "json":
        # Log warnings and uncaught exceptions too.
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread


def secrets_of(settings: Settings) -> list[str]:
    """Return the secrets to redact from every line, longest first."""
    secrets = {os.environ.get("AWS_SECRET_ACCESS_KEY", "")}
    if settings.admin_key is not None:
        secrets.add(settings.admin_key.get_secret_value())
    for url in (settings.database_url, settings.redis_url):
        password = (urlsplit(url.get_secret_value()).password if url else None) or ""
        secrets |= {password, unquote(password)}
    return sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)


class TextLines(logging.Formatter):
    def __init__(self, secrets: Collection[str], *, plain: bool = False) -> None:
        super().__init__(None if plain else "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return _redact(super().format(record), self._secrets)


class JsonLines(logging.Formatter):
    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": self._text(record.getMessage()),
            **_context.get(),
        }
        audit = getattr(record, "audit", None)
        if audit is not None:
            line |= {"audit": True, **audit}
        line |= getattr(record, "access", {})
        if record.exc_info:
            line["exception"] = self._text("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(line)

    def _text(self, text: str) -> str:
        return _redact(text, self._secrets)


def _redact(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _KEY.sub("cc_***", _BEARER.sub(r"\1***", text))
    text = _WEBHOOK_SECRET.sub("whsec_***", text)
    if len(text) > MAX_CHARACTERS:  # the end of a traceback is its most useful part
        text = f"{text[: MAX_CHARACTERS // 2]} … {text[-MAX_CHARACTERS // 2 :]}"
    return text


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("core").critical("Uncaught: %s", error, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
