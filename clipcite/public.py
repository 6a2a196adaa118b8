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
from clipcite.wire.adapt import Estimate, Finding, Preflight
from clipcite.wire.health import Readiness
from clipcite.wire.jobs import ClassCounts as ClassCount
from clipcite.wire.jobs import Event, Loss, Progress
from clipcite.wire.jobs import Job as JobData
from clipcite.wire.models import Alias, AliasMove
from clipcite.wire.models import Model as ModelData
from clipcite.wire.predictions import Classification, ImageResult, Prediction
from clipcite.wire.predictions import ClassKind as ClassInfo
from clipcite.wire.problems import Notice, Problem
from clipcite.wire.problems import ProblemItem as ErrorItem
from clipcite.wire.report import (
    Accuracies,
    AllClasses,
    ClassReport,
    Interval,
    MeasuredOn,
    Metrics,
    Recommendation,
    Reliability,
    Report,
    ReportMeasuredOn,
)
from clipcite.wire.report import ComparedAccuracies as Comparison
from clipcite.wire.report import ImageReport as ReportedImage

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
    "AsyncTrainedJob",
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
    "TrainedJob",
    "UnprocessableEntityError",
    "WaitTimeout",
    "read_images",
]
