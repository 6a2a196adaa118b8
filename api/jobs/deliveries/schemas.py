"""Schemas of webhook deliveries."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from core.store.db import tables


class Delivery(BaseModel):
    """Delivery of one message to the webhook of a job."""

    id: str = Field(description="Id of the message, sent as `webhook-id` with each attempt.")
    type: str = Field(description="Type of the message, such as `job.succeeded`.")
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None = Field(description="Next attempt of a pending delivery.")
    response_status: int | None = Field(description="Status of the receiver's last response.")
    reason: str | None = Field(description="Reason why the last attempt failed.")

    @classmethod
    def of(cls, row: tables.WebhookDelivery) -> "Delivery":
        ended = "delivered" if row.reason is None else "failed"
        return cls.model_validate(
            {
                **{name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)},
                "type": row.body["type"],
                "status": "pending" if row.finished_at is None else ended,
                "response_status": row.status,
            }
        )


class DeliveryList(BaseModel):
    data: list[Delivery]
