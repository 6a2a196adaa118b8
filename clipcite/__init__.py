"""clipcite: few-shot adaptation of CLIP, as a service of your own. This is its client.

from clipcite import Client

with Client("http://127.0.0.1:8000") as client:
    job = client.adapt("images", config={"epochs": 10}).wait()
    answer = client.classify(["a.jpg"], ["red fox", "badger"], model=job.model_id)
    print(answer.results[0].best)
"""

from clipcite.client._async.client import AsyncClient
from clipcite.client._async.jobs import AsyncJobHandle
from clipcite.client._async.models import AsyncModelHandle
from clipcite.client._sync.client import Client
from clipcite.client._sync.jobs import JobHandle
from clipcite.client._sync.models import ModelHandle
from clipcite.client.address import InvalidAddress
from clipcite.client.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    ConflictError,
    ErrorItem,
    InternalServerError,
    InvalidImages,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    Problem,
    RateLimitError,
    UnprocessableEntityError,
    WaitTimeout,
)
from clipcite.client.parse import UnexpectedAnswer
from clipcite.client.report_types import (
    Accuracies,
    ClassReport,
    Estimate,
    Finding,
    Preflight,
    Recommendation,
    Reliability,
    Report,
    ReportedImage,
    ReportedOn,
)
from clipcite.client.retry import Retry
from clipcite.client.types import (
    Alias,
    AllNames,
    ClassCount,
    Classification,
    ClassInfo,
    Compared,
    Event,
    ImageResult,
    Interval,
    Job,
    Loss,
    MeasuredOn,
    Metrics,
    Model,
    Move,
    Notice,
    Prediction,
    Progress,
    Readiness,
)
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.detect import read as read_images

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "Accuracies",
    "Alias",
    "AllNames",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncModelHandle",
    "AuthenticationError",
    "ClassCount",
    "ClassInfo",
    "ClassReport",
    "Classification",
    "Client",
    "ClipCiteError",
    "Compared",
    "ConflictError",
    "Dataset",
    "ErrorItem",
    "Estimate",
    "Event",
    "Finding",
    "ImageResult",
    "InternalServerError",
    "Interval",
    "InvalidAddress",
    "InvalidImages",
    "Job",
    "JobFailed",
    "JobHandle",
    "Loss",
    "MeasuredOn",
    "Metrics",
    "Model",
    "ModelHandle",
    "Move",
    "NotFoundError",
    "Notice",
    "PermissionDeniedError",
    "Prediction",
    "Preflight",
    "Problem",
    "Progress",
    "RateLimitError",
    "Readiness",
    "Recommendation",
    "Reliability",
    "Report",
    "ReportedImage",
    "ReportedOn",
    "Retry",
    "UnexpectedAnswer",
    "UnprocessableEntityError",
    "WaitTimeout",
    "read_images",
]
