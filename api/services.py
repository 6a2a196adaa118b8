"""What the process has: settings, database, storage, models for classification, and temporary files."""

from dataclasses import dataclass
from typing import Annotated

from api.deps import from_state
from api.serving.service import Serving
from core.scratch import ScratchSpace
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    blobs: Blobs
    serving: Serving
    scratch: ScratchSpace


ServicesDep = Annotated[Services, from_state("services")]
