"""All settings of the service: environment variables with the prefix `CLIPCITE_`."""

import os
from functools import cache, partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from clipcite.types.base import MAX_IMAGES

MB = 1_000_000
SECRETS = Path("/run/secrets")

# Fields of a group share a table in docs/reference/settings.md.
_storage = partial(Field, json_schema_extra={"group": "Storage"})
_http = partial(Field, json_schema_extra={"group": "HTTP"})
_backbones = partial(Field, json_schema_extra={"group": "Backbones"})
_uploads = partial(Field, json_schema_extra={"group": "Uploads"})
_quotas = partial(Field, json_schema_extra={"group": "Quotas"})
_webhooks = partial(Field, json_schema_extra={"group": "Webhooks"})
_jobs = partial(Field, json_schema_extra={"group": "Jobs"})
_retention = partial(Field, json_schema_extra={"group": "Retention"})
_operation = partial(Field, json_schema_extra={"group": "Logs and metrics"})
_serving = partial(Field, json_schema_extra={"group": "Serving"})


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CLIPCITE_", extra="ignore")

    data: Path = _storage(
        default_factory=lambda: user_data_path("clipcite"),
        description="Folder of the database, the blobs and the broker's socket, unless a URL places them "
        "elsewhere.",
    )
    cache: Path = _storage(
        default_factory=lambda: user_cache_path("clipcite"),
        description="Folder of the starter and of installed backbones. A service without a network cannot "
        "download them again.",
    )
    database_url: SecretStr | None = _storage(
        None, description="`postgresql://…` or `sqlite:///…`. Default: SQLite in the data folder."
    )
    redis_url: SecretStr | None = _storage(
        None,
        description="URL of the Celery broker (Redis or Valkey). Default: the Valkey that `clipcite serve` "
        "starts in the data folder.",
    )
    blob_url: str | None = _storage(
        None,
        description="`file:///…` or `s3://bucket/prefix` for images and weights. Default: `blobs` in the "
        "data folder. The variables of AWS give access to a bucket.",
    )
    secrets: Path = _storage(
        SECRETS,
        description="Folder with one file per setting, named after its variable in lower case. Environment "
        "variables take precedence.",
    )

    host: str = _http("127.0.0.1", description="Address to listen on.")
    port: int = _http(8000, ge=0, le=65535, description="Port to listen on.")
    admin_key: SecretStr | None = _http(
        None,
        description="API key of the owner `default` with every scope, in addition to the keys in the "
        "database.",
    )
    require_token: bool = _http(
        True,
        description="Without keys, require the token in the file `token` of the data folder. `false` gives "
        "every program on this machine full access.",
    )

    backbone: str = _backbones("starter", description="Default backbone, also known as `stock`.")
    backbones: list[str] = _backbones(
        [],
        description="JSON list of further backbones that jobs may use: `Model/pretrained`, `hf-hub:…` or "
        "`local-dir:FOLDER`.",
    )

    max_request_bytes: int = _uploads(1_000 * MB, gt=0, description="Maximum size of a request body (bytes).")
    memory_bytes: int = _uploads(
        1_000 * MB,
        gt=0,
        description="Memory for request bodies in the API (bytes), half of it per owner. JSON counts three "
        "times. Forms count with their text and, at `/classify`, all images. Further requests get a 503.",
    )
    max_images: int = _uploads(5_000, gt=0, le=MAX_IMAGES, description="Maximum number of images per job.")
    max_image_bytes: int = _uploads(20 * MB, gt=0, description="Maximum size of an image file (bytes).")
    max_image_pixels: int = _uploads(40 * MB, gt=0, description="Maximum number of pixels per image.")

    max_running_jobs: int = _quotas(
        0, ge=0, description="Maximum number of running jobs per owner (0: unlimited)."
    )
    max_stored_bytes: int = _quotas(
        0, ge=0, description="Maximum size of an owner's images and models (bytes, 0: unlimited)."
    )

    webhook_allow_private: bool = _webhooks(
        False, description="Allow webhooks to private addresses, including this machine."
    )

    max_attempts: int = _jobs(
        3, ge=1, description="Maximum number of attempts per job if its worker or trainer dies."
    )
    lease_seconds: float = _jobs(
        30,
        gt=0,
        description="Time without a heartbeat (seconds) after which a worker loses its job. It determines "
        "other intervals.",
    )
    deadline_seconds: float = _jobs(
        6 * 3600, gt=0, description="Maximum duration of a training and its evaluation (seconds)."
    )
    warm_trainer: bool = _jobs(
        True,
        description="Keep a trainer process with finished imports ready (about 350 MB), so that jobs start "
        "sooner.",
    )

    keep_days: int = _retention(
        0,
        ge=0,
        description="Time for which ended jobs, their images, events and reports are kept (days, 0: for "
        "ever). Models are always kept.",
    )
    pile_days: int = _retention(
        90,
        ge=0,
        description="Time for which a pile is kept after its last use (days, 0: for ever).",
    )

    log: Literal["text", "json"] = _operation(
        "text", description="Log format: `text`, or `json` for one object per line."
    )
    log_level: Literal["info", "warning"] = _operation(
        "info", description="Least severe messages to log. `clipcite serve` sets `warning`."
    )
    metrics_port: int | None = _operation(
        None,
        ge=1,
        le=65534,
        description="Port of a worker's Prometheus metrics. The dispatcher uses the next port.",
    )
    metrics_host: str = _operation(
        "127.0.0.1", description="Address of the metrics port, which requires no key."
    )

    device: str = _serving(
        "auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", description="`auto`, `cpu`, `cuda` or `cuda:N`."
    )
    serving_precision: Literal["fp32", "tf32", "bf16", "fp16"] = _serving(
        "fp32",
        description="Precision in which the API computes features: `fp32`, `bf16`, and on a GPU `tf32` or "
        "`fp16`. All but `fp32` change some results (docs/operate/gpu.md).",
    )
    model_cache_bytes: int = _serving(
        2_000 * MB,
        gt=0,
        description="Memory for the API's cache of models (bytes), not counting the shared backbones. "
        "Models in use are never evicted, so the cache may exceed this size.",
    )
    serving_reserve_bytes: int = _serving(
        0, ge=0, description="GPU memory that training leaves free for an API on the same GPU (bytes)."
    )

    @property
    def heartbeat_seconds(self) -> float:
        """Interval at which a worker renews its lease, reports progress and notices a cancellation."""
        return min(1.0, self.lease_seconds / 10)

    @property
    def dispatch_seconds(self) -> float:
        """Interval at which the dispatcher looks for work."""
        return min(0.5, self.lease_seconds / 15)

    @property
    def redispatch_seconds(self) -> float:
        """Time after which the wake-up for an unclaimed job is sent again."""
        return self.lease_seconds

    @property
    def stall_seconds(self) -> float:
        """Time without progress after which a training is killed."""
        return 20 * self.lease_seconds

    @property
    def checkpoint_seconds(self) -> float:
        """Interval between checkpoints, rounded up to whole epochs."""
        return 10 * self.lease_seconds

    def sqlalchemy_url(self) -> str:
        """Return the database URL with an explicit driver for PostgreSQL (psycopg 3)."""
        if self.database_url is None:
            return f"sqlite:///{self.data / 'clipcite.db'}"
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url

    def broker_url(self) -> str:
        """Return the URL of the broker, by default of the Valkey that `clipcite serve` starts."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        return f"redis+socket://{quote(str(self.valkey_socket()))}"

    def valkey_socket(self) -> Path:
        """Return the socket of the Valkey that `clipcite serve` starts."""
        return self.data.absolute() / "valkey.sock"

    def scratch(self) -> Path:
        """Return the folder of images that are being checked or trained on."""
        return self.data.absolute() / "tmp"

    def blobs_url(self) -> str:
        """Return the URL of the storage."""
        return self.blob_url or (self.data / "blobs").absolute().as_uri()


def read_settings() -> Settings:
    """Read the settings from the environment, then from files such as `/run/secrets/clipcite_device`."""
    folder = Path(os.environ.get("CLIPCITE_SECRETS", SECRETS))
    return Settings(_secrets_dir=folder if folder.is_dir() else None)


get_settings = cache(read_settings)
"""Return the settings of this process. They are read only once."""
