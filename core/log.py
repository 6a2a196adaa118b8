"""What the processes print: our own words and warnings of others, as text or as JSON.

Which request or job a line belongs to is known from the context that it was written in. What must not
get out is taken out of every line, whoever wrote it: the secrets of the settings, bearer keys, and what
webhooks are signed with.
"""

import json
import logging
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

from core.settings import Settings

OURS = ("api", "worker", "core", "celery.worker", "celery.apps.worker", "uvicorn.error")
MAX_CHARACTERS = 10_000
"""Characters of a message or a traceback: what quotes an image or a whole request is cut."""
_BEARER = re.compile(r"(?i)(\bbearer\s+)[^\s'\",]+")
_KEY = re.compile(r"\bcc_[A-Za-z0-9_-]{43}")
"""One of our keys, wherever somebody put it: into an address, say."""
_WEBHOOK_SECRET = re.compile(r"\bwhsec_[A-Za-z0-9+/=]+")

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))


def from_here(**ids: str) -> Token[Mapping[str, str]]:
    """What this task or thread logs from now on belongs to that `request_id` or `job_id`; also what it
    logs in threads that take its context along, as those of `def` routes do."""
    return _context.set({**_context.get(), **ids})


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """The same, for what is logged within."""
    token = from_here(**ids)
    try:
        yield
    finally:
        _context.reset(token)


def start_logging(settings: Settings) -> None:
    """Call once, first thing in a process. Libraries that narrate (open_clip, alembic, an access log
    line per poll) are kept to warnings."""
    handler = logging.StreamHandler()
    secrets = secrets_of(settings)
    handler.setFormatter(JsonLines(secrets) if settings.log == "json" else TextLines(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    if settings.log == "json":
        # What would be printed beside the log becomes a line of it.
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread


def secrets_of(settings: Settings) -> list[str]:
    """What no line may hold, longest first."""
    found = set()
    if settings.api_key is not None:
        found.add(settings.api_key.get_secret_value())
    for url in (settings.database_url, settings.redis_url):
        password = (urlsplit(url.get_secret_value()).password if url else None) or ""
        found |= {password, unquote(password)}
    return sorted((secret for secret in found if len(secret) > 3), key=len, reverse=True)


class TextLines(logging.Formatter):
    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return _cleaned(super().format(record), self._secrets)


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
        if record.exc_info:
            line["exception"] = self._text("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(line)

    def _text(self, text: str) -> str:
        return _cleaned(text, self._secrets)


def _cleaned(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _KEY.sub("cc_***", _BEARER.sub(r"\1***", text))
    text = _WEBHOOK_SECRET.sub("whsec_***", text)
    if len(text) > MAX_CHARACTERS:  # the end of a traceback says most
        text = f"{text[: MAX_CHARACTERS // 2]} … {text[-MAX_CHARACTERS // 2 :]}"
    return text


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("core").critical("Uncaught: %s", error, exc_info=(kind, error, trace))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
        _uncaught(given.exc_type, given.exc_value, given.exc_traceback)
