"""clipcite: few-shot adaptation of CLIP, as a service of your own. This is its client.

from clipcite import Client

with Client("http://127.0.0.1:8000") as client:
    job = client.adapt("pictures", config={"epochs": 10}).wait()
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
    ClipciteError,
    Conflict,
    ErrorItem,
    InvalidPictures,
    JobFailed,
    NoAccess,
    NotFound,
    Problem,
    Refused,
    ServiceError,
    ServiceFailed,
    ServiceUnreachable,
    TooManyRequests,
    WaitTimeout,
)
from clipcite.client.parse import UnexpectedAnswer
from clipcite.client.report_types import (
    Accuracies,
    Advice,
    Calibration,
    ClassReport,
    Estimate,
    Finding,
    Preflight,
    Report,
    ReportedOn,
    ReportedPicture,
)
from clipcite.client.retry import Retry
from clipcite.client.types import (
    Alias,
    AllNames,
    AskedName,
    ClassCount,
    Classification,
    Compared,
    Event,
    Interval,
    Job,
    Loss,
    MeasuredOn,
    Metrics,
    Model,
    Move,
    Notice,
    PictureResult,
    Prediction,
    Progress,
    Readiness,
)
from clipcite.datasets.dataset import Dataset
from clipcite.datasets.detect import read as read_pictures

__all__ = [
    "Accuracies",
    "Advice",
    "Alias",
    "AllNames",
    "AskedName",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncModelHandle",
    "Calibration",
    "ClassCount",
    "ClassReport",
    "Classification",
    "Client",
    "ClipciteError",
    "Compared",
    "Conflict",
    "Dataset",
    "ErrorItem",
    "Estimate",
    "Event",
    "Finding",
    "Interval",
    "InvalidAddress",
    "InvalidPictures",
    "Job",
    "JobFailed",
    "JobHandle",
    "Loss",
    "MeasuredOn",
    "Metrics",
    "Model",
    "ModelHandle",
    "Move",
    "NoAccess",
    "NotFound",
    "Notice",
    "PictureResult",
    "Prediction",
    "Preflight",
    "Problem",
    "Progress",
    "Readiness",
    "Refused",
    "Report",
    "ReportedOn",
    "ReportedPicture",
    "Retry",
    "ServiceError",
    "ServiceFailed",
    "ServiceUnreachable",
    "TooManyRequests",
    "UnexpectedAnswer",
    "WaitTimeout",
    "read_pictures",
]
