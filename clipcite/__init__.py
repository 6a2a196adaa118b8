"""Python client of clipcite, a self-hosted service for few-shot adaptation of CLIP.

from clipcite import Client

with Client("http://127.0.0.1:8000") as client:
    job = client.adapt("images", config={"epochs": 10}).wait()
    answer = client.classify(["a.jpg"], ["red fox", "badger"], model=job.model_id)
    print(answer.results[0].best)
"""

from clipcite.client._async.client import AsyncClient
from clipcite.client._async.jobs import AsyncJob
from clipcite.client._async.models import AsyncModel
from clipcite.client._sync.client import Client
from clipcite.client._sync.jobs import Job
from clipcite.client._sync.models import Model
from clipcite.client.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ClipCiteError,
    ConflictError,
    ErrorItem,
    InternalServerError,
    InvalidAddress,
    InvalidImages,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    Problem,
    RateLimitError,
    UnprocessableEntityError,
    WaitTimeout,
)
from clipcite.client.parse import APIResponseValidationError
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
    ReportMeasuredOn,
)
from clipcite.client.retry import Retry
from clipcite.client.types import (
    Alias,
    AliasMove,
    AllClasses,
    ClassCount,
    Classification,
    ClassInfo,
    Comparison,
    Event,
    ImageResult,
    Interval,
    JobData,
    Loss,
    MeasuredOn,
    Metrics,
    ModelData,
    Notice,
    Prediction,
    Progress,
    Readiness,
)
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.detect import read as read_images

__all__ = [
    "APIConnectionError",
    "APIResponseValidationError",
    "APIStatusError",
    "Accuracies",
    "Alias",
    "AliasMove",
    "AllClasses",
    "AsyncClient",
    "AsyncJob",
    "AsyncModel",
    "AuthenticationError",
    "ClassCount",
    "ClassInfo",
    "ClassReport",
    "Classification",
    "Client",
    "ClipCiteError",
    "Comparison",
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
    "JobData",
    "JobFailed",
    "Loss",
    "MeasuredOn",
    "Metrics",
    "Model",
    "ModelData",
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
    "ReportMeasuredOn",
    "ReportedImage",
    "Retry",
    "UnprocessableEntityError",
    "WaitTimeout",
    "read_images",
]
