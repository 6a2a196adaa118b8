"""Health of the service."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from clipcite.types.base import Open, ResponseModel

Part = Literal["ok", "degraded", "unavailable"]


class Alive(ResponseModel):
    status: Literal["ok"] = "ok"


class PartReadiness(TypedDict):
    """Status of one part of the service."""

    status: Open[Part]
    reason: Annotated[str | None, Field(description="Cause and remedy; null if the part is ok.")]


class Preparing(ResponseModel):
    """Current step of the preparation of the default backbone."""

    what: str = Field(description="The step, such as `Downloading ViT-B-16/openai`.")
    done_bytes: int | None = Field(None, description="Downloaded bytes; null for any step but a download.")
    total_bytes: int | None = Field(None, description="Size of the download; null for other steps.")


class Readiness(ResponseModel):
    status: Open[Part] = Field(description="Worst status of the parts.")
    parts: dict[str, PartReadiness] = Field(description="Parts by name: database, storage, broker, backbone.")
    preparing: Preparing | None = Field(
        None, description="Current step while the default backbone is downloaded or loaded, else null."
    )
    version: str = Field(description="Version of the service.")
    backbone: str = Field(description="Default backbone, also known as `stock`.")
    device: str = Field(description="Device that computes: `cpu` or `cuda`.")

    @property
    def ready(self) -> bool:
        return self.status != "unavailable"
