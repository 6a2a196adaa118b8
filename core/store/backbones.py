"""Default backbone of the installation, and requested downloads, which the dispatcher does."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.settings import Settings
from core.store.accounts import audit
from core.store.db.backbone_tables import BackbonePull
from core.store.db.session import database_now
from core.store.db.text import sanitize_text
from core.store.errors import Conflict
from core.store.storage import installation


def is_fixed(settings: Settings) -> bool:
    """Return whether the environment of the service sets the default backbone."""
    return "backbone" in settings.model_fields_set


def fixed(settings: Settings) -> Conflict:
    """Return the error of a choice that the environment of the service has made already."""
    return Conflict(
        "set_by_environment",
        f"The operator has chosen the model: CLIPCITE_BACKBONE is {settings.backbone}. Start the service "
        "without this variable and without --backbone to choose another one here.",
    )


def default(session: Session, settings: Settings) -> str:
    """Return the default backbone: that of the environment, else the chosen one, else the starter."""
    chosen = None if is_fixed(settings) else installation.find(session).default_backbone
    return chosen or settings.backbone


def set_default(session: Session, settings: Settings, name: str) -> None:
    """Choose the default backbone, which must be installed.

    Raises:
        Conflict: the environment sets it.
    """
    if is_fixed(settings):
        raise fixed(settings)
    row = installation.find(session, lock=True)
    if row.default_backbone != name:
        row.default_backbone = name
        audit.record("backbone.default", name)


def pulls(session: Session) -> list[BackbonePull]:
    """Return the requested and the failed downloads, the oldest first."""
    return list(session.scalars(select(BackbonePull).order_by(BackbonePull.requested_at)))


def request_pull(session: Session, name: str, *, use: bool) -> None:
    """Request a download, again after a failure. A download in progress goes on.

    Args:
        use: make the backbone the default once it is installed.
    """
    row = session.get(BackbonePull, name, with_for_update=True)
    if row is None or row.error is not None:
        audit.record("backbone.pull", name)
    if row is None:
        session.add(BackbonePull(name=name, requested_at=database_now(session), use=use))
    else:
        row.error, row.use = None, use


def end_pull(session: Session, settings: Settings, name: str, error: str | None = None) -> None:
    """End a download: with its error, or else with the installed backbone. A stopped one has no row."""
    row = session.get(BackbonePull, name, with_for_update=True)
    if row is None:
        return
    if error is not None:
        row.error = error
        return
    if row.use and not is_fixed(settings):
        set_default(session, settings, name)
    session.delete(row)


def stop_pull(session: Session, name: str) -> None:
    """Stop a download, or forget a failed one. What has arrived stays for the next download."""
    row = session.get(BackbonePull, sanitize_text(name))
    if row is not None:
        session.delete(row)
        audit.record("backbone.stop", name)
