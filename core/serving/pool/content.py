"""What a model is, whatever it is called."""

from dataclasses import dataclass

from core.store.db.tables import Model


@dataclass(frozen=True)
class Content:
    """What a model's files are, whatever the model is called: two with the same are one in memory."""

    sha256: str
    backbone: str
    image_size: int | None

    @classmethod
    def of(cls, row: Model) -> "Content":
        return cls(row.sha256, row.backbone, row.image_size)

    @property
    def key(self) -> str:
        return f"{self.sha256}/{self.backbone}/{self.image_size}"

    def at(self, alpha: float) -> str:
        """The key of the network."""
        return f"{self.key}@{alpha!r}"
