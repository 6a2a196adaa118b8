"""Default backbone of the installation, requests for downloads, and removals. The dispatcher downloads."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.settings import Settings
from core.store.accounts import audit
from core.store.db.session import database_now
from core.store.db.tables import QUEUED, RUNNING, BackbonePull, Job, Model
from core.store.db.text import sanitize_text
from core.store.errors import Conflict
from core.store.storage import installation

MAX_PULLS = 10
"""Maximum number of downloads in progress or waiting. They are carried out one at a time."""
NAMED = 5
"""Maximum number of models and jobs that an error names."""


def is_fixed(settings: Settings) -> bool:
    """Return whether the environment of the service sets the default backbone."""
    return "backbone" in settings.model_fields_set


def fixed(settings: Settings) -> Conflict:
    """Return the error for a choice that the service's environment has already made."""
    return Conflict(
        "set_by_environment",
        f"The operator has chosen the model: CLIPCITE_BACKBONE is {settings.backbone}. Start the service "
        "without this variable and without --backbone to choose another one here.",
    )


def default(session: Session, settings: Settings) -> str:
    """Return the default backbone: from the environment, else the chosen one, else the starter."""
    chosen = None if is_fixed(settings) else installation.find(session).default_backbone
    return chosen or settings.backbone


def set_default(session: Session, settings: Settings, name: str) -> None:
    """Set the default backbone. It must be installed.

    Raises:
        Conflict: the environment sets the default.
    """
    if is_fixed(settings):
        raise fixed(settings)
    row = installation.find(session, lock=True)
    if row.default_backbone != name:
        row.default_backbone = name
        audit.record("backbone.default", name)


def pulls(session: Session) -> list[BackbonePull]:
    """Return the requested and the failed downloads, oldest first."""
    return list(session.scalars(select(BackbonePull).order_by(BackbonePull.requested_at)))


def request_pull(session: Session, name: str, *, use: bool) -> None:
    """Request a download. A failed one is tried again, and one in progress continues.

    Args:
        use: make the backbone the default once it is installed.

    Raises:
        Conflict: MAX_PULLS downloads are requested already.
    """
    installation.find(session, lock=True)  # so that concurrent requests are counted
    row = session.get(BackbonePull, name, with_for_update=True)
    if row is None or row.error is not None:
        if sum(pull.error is None for pull in pulls(session)) >= MAX_PULLS:
            raise Conflict(
                "too_many_downloads",
                f"{MAX_PULLS} downloads are in progress or wait. Stop one in the page, or with DELETE "
                "/backbones/{name}/pull, or wait until one is complete.",
            )
        audit.record("backbone.pull", name)
    if row is None:
        session.add(BackbonePull(name=name, requested_at=database_now(session), use=use))
    else:
        row.error, row.use = None, use


def end_pull(session: Session, settings: Settings, name: str, error: str | None = None) -> None:
    """End a download, with `error` or as installed. If the download was stopped, its row no longer exists."""
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
    """Stop a download, or forget a failed one."""
    row = session.get(BackbonePull, sanitize_text(name))
    if row is not None:
        session.delete(row)
        audit.record("backbone.stop", name)


def release(session: Session, settings: Settings, name: str) -> None:
    """Check that a backbone may be removed, and delete its download request.

    Raises:
        Conflict: the backbone is the default, or a model or an unfinished job needs it.
    """
    if default(session, settings) == name:
        raise Conflict(
            "backbone_in_use",
            f"{name} is the model for new trainings. Choose another one first, in the page or with `clipcite "
            "backbones use`.",
        )
    models = select(Model.id, Model.owner).where(Model.backbone == name).order_by(Model.created_at)
    unfinished = select(Job.id, Job.owner, Job.config).where(Job.status.in_((QUEUED, RUNNING)))
    users = [f"{model_id} of {owner}" for model_id, owner in session.execute(models)]
    users += [
        f"{job_id} of {owner}"
        for job_id, owner, config in session.execute(unfinished)
        if config["backbone"] == name
    ]
    if users:
        more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
        raise Conflict(
            "backbone_in_use",
            f"Still in use: {name} is needed by {', '.join(users[:NAMED])}{more}. Delete the models and wait "
            "for the jobs first.",
        )
    stop_pull(session, name)
    audit.record("backbone.remove", name)
