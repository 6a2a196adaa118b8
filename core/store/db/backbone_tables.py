"""Table of the downloads of backbones."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.store.db.base import Base, UtcDateTime


class BackbonePull(Base):
    """Requested download of a backbone. The row is deleted once the backbone is installed."""

    __tablename__ = "backbone_pulls"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    use: Mapped[bool]
    """True if the backbone becomes the default."""
    error: Mapped[str | None] = mapped_column(Text)
    """Error of the last try. None: the download is due or in progress."""
