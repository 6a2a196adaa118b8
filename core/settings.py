"""Every environment variable of the service, in one class. All begin with `CLIPCITE_`."""

import os
from functools import cache
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MB = 1_000_000
SECRETS = Path("/run/secrets")
MAX_IMAGES = 100_000
MAX_CLASSIFY_IMAGES = 10_000
MAX_CLASS_NAMES = 20_000
"""No setting goes beyond these, which the API's schemas state."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CLIPCITE_", extra="ignore")

    # Where things are kept.
    data: Path = Field(
        default_factory=lambda: user_data_path("clipcite"),
        description="Folder of the database, the blobs and the queue, where no URL says otherwise.",
    )
    cache: Path = Field(
        default_factory=lambda: user_cache_path("clipcite"),
        description="Folder of the assembled starter and of what came from a model hub; may be deleted.",
    )
    database_url: SecretStr | None = Field(
        None, description="`postgresql://…` or `sqlite:///…`; default: SQLite in the data folder."
    )
    redis_url: SecretStr | None = Field(
        None, description="Broker for Celery; default: message files in the data folder."
    )
    blob_url: str | None = Field(
        None,
        description="`file:///…` or `s3://bucket/prefix` for images and weights; default: `blobs` in the "
        "data folder.",
    )
    s3_endpoint: str | None = Field(
        None, description="URL of an S3-compatible server; default: AWS, or `AWS_ENDPOINT_URL`."
    )
    s3_region: str | None = Field(None, description="Region of the bucket; default: `AWS_REGION`.")
    s3_access_key: SecretStr | None = Field(
        None, description="Key of the bucket; default: `AWS_ACCESS_KEY_ID`, or the machine's role."
    )
    s3_secret_key: SecretStr | None = Field(
        None, description="The secret to it; default: `AWS_SECRET_ACCESS_KEY`."
    )

    secrets: Path = Field(
        SECRETS,
        description="Folder of files named like these variables in small letters, each holding a value; a "
        "variable that is set wins.",
    )

    # The HTTP service.
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    api_key: SecretStr | None = Field(
        None, description="A key of the owner `default` with every scope, beside those in the database."
    )

    # Backbones.
    backbone: str = Field("starter", description="The default backbone, and what `stock` means.")
    backbones: list[str] = Field(
        [],
        description="More backbones that a job may name, as a JSON list: `Model/pretrained` or `hf-hub:…`.",
    )
    backbone_folder: Path | None = Field(
        None, description="Jobs may name `local-dir:` folders below this one."
    )

    # Limits on uploads.
    max_request_bytes: int = Field(1_000 * MB, gt=0, description="Largest request body.")
    max_json_bytes: int = Field(
        100 * MB, gt=0, description="Largest JSON body of /classify: it is held in memory."
    )
    upload_idle_seconds: float = Field(
        30, gt=0, description="An upload of which less than 1 kB came in so long is ended."
    )
    max_images: int = Field(5_000, gt=0, le=MAX_IMAGES, description="Most images in one job.")
    max_image_bytes: int = Field(20 * MB, gt=0, description="Largest image file.")
    max_image_pixels: int = Field(40 * MB, gt=0, description="Most pixels in one image.")
    max_classify_images: int = Field(
        64, gt=0, le=MAX_CLASSIFY_IMAGES, description="Most images in one /classify."
    )
    max_class_names: int = Field(
        1_000, gt=0, le=MAX_CLASS_NAMES, description="Most class names in one /classify."
    )

    # What one owner may take, and one key.
    max_queued_jobs: int = Field(0, ge=0, description="Most waiting jobs of an owner; 0 is no limit.")
    max_running_jobs: int = Field(0, ge=0, description="Most running jobs of an owner; 0 is no limit.")
    max_models: int = Field(0, ge=0, description="Most models of an owner; 0 is no limit.")
    max_stored_bytes: int = Field(
        0, ge=0, description="Most bytes of images and models of an owner; 0 is no limit."
    )
    requests_per_minute: int = Field(
        0, ge=0, description="Most requests of a key, at each API process; 0 is no limit."
    )
    max_streams: int = Field(
        200, ge=0, description="Most open event streams of an owner, at each API process; 0 is no limit."
    )

    # Where webhooks may go.
    webhook_allow_private: bool = Field(
        False, description="`true`: webhooks may go to private addresses, this machine's among them."
    )

    # Jobs. Times are seconds.
    max_attempts: int = Field(3, ge=1, description="A job whose worker dies this often has failed.")
    lease_seconds: float = Field(30, gt=0, description="A worker silent for so long has lost its job.")
    heartbeat_seconds: float = Field(1, gt=0, description="How often a worker renews its lease.")
    dispatch_seconds: float = Field(0.5, gt=0, description="How often the dispatcher looks for work.")
    redispatch_seconds: float = Field(
        30, gt=0, description="A message not picked up for so long is sent again."
    )
    dispatch_ahead: int = Field(4, ge=1, description="Most messages waiting in the broker.")
    deadline_seconds: float = Field(6 * 3600, gt=0, description="Longest run of one job.")
    stall_seconds: float = Field(600, gt=0, description="A training without progress for so long is killed.")
    checkpoint_seconds: float = Field(
        300,
        ge=0,
        description="A training that runs for so long is stored after an epoch, and again after as long.",
    )
    warm_trainer: bool = Field(
        True, description="A process waits with its imports done, so that jobs start sooner; some 350 MB."
    )

    # Stored files that nobody owns.
    sweep: Literal["on", "report", "off"] = Field(
        "on",
        description="Stored folders without a job or model: `on` deletes them, `report` only marks and logs "
        "them, `off` ignores them.",
    )
    sweep_days: int = Field(
        7, ge=1, description="Time between the first look at such a folder and its deletion, in days."
    )

    # What the processes tell of themselves.
    log: Literal["text", "json"] = Field("text", description="`json` writes one object a line.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65534,
        description="Port of a worker's Prometheus metrics; the dispatcher's is the next one.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of those; nobody is asked for a key there.")

    liveness_file: Path | None = Field(
        None,
        description="File that a worker or dispatcher touches while it runs, for `clipcite liveness`.",
    )

    leashed: bool = Field(
        False, description="Set by `clipcite serve` for its child processes: end when standard input closes."
    )

    # Serving.
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    model_cache_bytes: int = Field(
        2_000 * MB,
        gt=0,
        description="Memory for warm models in the API, beside the backbones that they share: on the device, "
        "and as they are stored. What is in use stays, were it more.",
    )
    text_cache_bytes: int = Field(
        250 * MB, gt=0, description="Memory for the features of prompts in the API; some 5 kB a class name."
    )
    pinned_models: list[str] = Field(
        [],
        description="Models that are loaded at the start and kept, as a JSON list of references such as "
        "`shoes@prod` (followed when the alias moves), of another owner `owner/shoes@prod`.",
    )
    model_load_seconds: float = Field(
        10, gt=0, description="A request waits so long for a cold model, or its turn, then gets 503."
    )
    max_waiting_images: int = Field(
        256,
        gt=0,
        description="Most images that are being classified or wait for it, half of them for one model; "
        "beyond it is 503.",
    )
    decode_bytes: int = Field(
        512 * MB,
        gt=0,
        description="Memory for decoding images in the API, of all requests together; a larger image is "
        "decoded alone.",
    )
    serving_reserve_bytes: int = Field(
        0, ge=0, description="GPU memory that a training leaves alone, for an API on the same GPU."
    )

    def known_backbone(self, name: str) -> str | None:
        """The one spelling of a backbone that a job may name: of the operator's list, or a folder of
        theirs. None for any other."""
        if name in {"starter", self.backbone, *self.backbones}:
            return name
        if self.backbone_folder is None or not name.startswith("local-dir:"):
            return None
        # Resolved, so that neither `..` nor a symbolic link leads out of the operator's folder.
        try:
            folder = Path(name.removeprefix("local-dir:")).resolve()
            inside = folder.is_relative_to(self.backbone_folder.resolve())
            usable = inside and (folder / "open_clip_config.json").is_file()
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a NUL
            return None
        return f"local-dir:{folder}" if usable else None

    def sqlalchemy_url(self) -> str:
        """The database's URL with the driver that we use (psycopg 3) made explicit."""
        if self.database_url is None:
            return f"sqlite:///{self.data / 'clipcite.db'}"
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url

    def scratch(self) -> Path:
        """Where images lie while they are checked or trained on."""
        return self.data.absolute() / "tmp"

    def blobs_url(self) -> str:
        return self.blob_url or (self.data / "blobs").absolute().as_uri()


@cache
def get_settings() -> Settings:
    """The process's settings, read once: from the environment, then from files such as
    `/run/secrets/clipcite_database_url`, as container engines lay out secrets."""
    folder = Path(os.environ.get("CLIPCITE_SECRETS", SECRETS))
    return Settings(_secrets_dir=folder if folder.is_dir() else None)
