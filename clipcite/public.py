"""Public names of the Python client, imported with their first use (`clipcite/__init__.py`)."""

from clipcite.client._async.client import AsyncClient
from clipcite.client._async.jobs import AsyncJob, AsyncTrainedJob
from clipcite.client._async.models import AsyncModel
from clipcite.client._sync.client import Client
from clipcite.client._sync.jobs import Job, TrainedJob
from clipcite.client._sync.models import Model
from clipcite.client.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    ConflictError,
    InternalServerError,
    InvalidAddress,
    InvalidImages,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    WaitTimeout,
)
from clipcite.client.request import APIResponseValidationError
from clipcite.client.retry import Retry
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.detect import read as read_images
from clipcite.wire.adapt import Preflight
from clipcite.wire.health import Readiness
from clipcite.wire.jobs import Event
from clipcite.wire.models import Alias
from clipcite.wire.predictions import Classification, ImageResult, Prediction
from clipcite.wire.report import Metrics, Report

__all__ = [
    "APIConnectionError",
    "APIResponseValidationError",
    "APIStatusError",
    "Alias",
    "AsyncClient",
    "AsyncJob",
    "AsyncModel",
    "AsyncTrainedJob",
    "AuthenticationError",
    "Classification",
    "Client",
    "ClipCiteError",
    "ConflictError",
    "Dataset",
    "Event",
    "ImageResult",
    "InternalServerError",
    "InvalidAddress",
    "InvalidImages",
    "Job",
    "JobFailed",
    "Metrics",
    "Model",
    "NotFoundError",
    "PermissionDeniedError",
    "Prediction",
    "Preflight",
    "RateLimitError",
    "Readiness",
    "Report",
    "Retry",
    "TrainedJob",
    "UnprocessableEntityError",
    "WaitTimeout",
    "read_images",
]
