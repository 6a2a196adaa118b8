"""Tables of webhooks."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.store.db.base import ID, JSON_VALUE, Base, UtcDateTime


class WebhookSecret(Base):
    """Shared secret that signs an owner's webhooks."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index(None, "owner"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    secret: Mapped[str] = mapped_column(String(80))
    """The secret in plain text, because signing needs it."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebhookDelivery(Base):
    """Pending delivery to a job's webhook: its model or its end (transactional outbox)."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "job_id"), Index(None, "next_attempt_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(JSON_VALUE)
    attempts: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
