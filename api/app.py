"""Assembly of the FastAPI application: state, routers and middleware."""

import re
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from api import backbones, compat, samples
from api.classify import routes as classify
from api.deps import Services
from api.evaluation import routes as evaluation
from api.http import problems
from api.http.openapi import build_openapi
from api.jobs import images
from api.jobs import routes as jobs
from api.jobs.event_stream import EventSource
from api.jobs.form import JobForm
from api.jobs.report import routes as report
from api.jobs.submission import JobSubmission
from api.middleware.auth import AuthMiddleware, LastUse, Refusals, bearer_scheme
from api.middleware.body_limit import BodyLimitMiddleware
from api.middleware.head import HeadMiddleware
from api.middleware.large_responses import LargeResponses
from api.middleware.request_id import RequestId
from api.models import aliases
from api.models import routes as models
from api.models.imports import ModelImport
from api.ops import health, metrics
from api.piles import routes as piles
from api.piles.features import PileFeatureStore
from api.serving.service import Serving
from api.web import static_files as web
from core.admission import Budget
from core.scratch import ScratchSpace, scratch_folder, sweep_scratch
from core.settings import Settings
from core.store.db.session import Database
from core.store.jobs.queue import make_celery
from core.store.storage.blobs import Blobs

DESCRIPTION = """Few-shot adaptation of CLIP. Upload a few labelled images (`POST /adapt`), poll the job,
then classify with **any** class names (`POST /classify`), trained or new. Errors are
`application/problem+json`."""

UPLOAD_PATHS = re.compile(r"/(adapt|models(/[^/]+/(extend|evaluate))?|piles/[^/]+/images)")
MEMORY_PATHS = re.compile(r"/classify|/thumbnail|/adapt/layout|/piles/(match|[^/]+/answers)")
"""Paths that accept a large body in memory."""
SCRATCH_REQUESTS = 4
"""Maximum size of all temporary files, as a multiple of the largest request."""


def create_app(settings: Settings) -> FastAPI:
    """Create the API with the database, storage and broker of the settings."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweep_scratch(settings.scratch())
        # In a thread: /healthz responds at once, and /readyz with 200 once the backbone is loaded.
        threading.Thread(target=_warm_up, args=(app,), name="warm-up", daemon=True).start()
        usual = tempfile.tempdir
        with scratch_folder(settings.scratch()) as spool:
            tempfile.tempdir = str(spool)  # the system's folder is often in memory
            yield
            tempfile.tempdir = usual
        app.state.pile_features.close()
        app.state.serving.close()
        app.state.last_use.close()
        app.state.database.close()

    app = FastAPI(
        title="CLIP-CITE",
        version=version("clipcite"),
        description=DESCRIPTION,
        docs_url=None,  # api.web serves /docs without files from other hosts
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # function names in generated clients
    )
    app.state.settings = settings
    app.state.database = Database(settings.sqlalchemy_url())
    app.state.blobs = Blobs.of(settings)
    # Starlette allows one image more than the service, because the service's error is more helpful.
    most = settings.max_images + 1
    app.state.form_limits = {"max_files": most + 1, "max_fields": most + len(JobForm.model_fields)}
    app.state.memory = Budget(settings.memory_bytes, "Other requests take the memory.", retry_after=10)
    app.state.serving = Serving(settings, app.state.database, app.state.blobs, app.state.memory)
    app.state.celery = make_celery(settings)
    app.state.last_use = LastUse(app.state.database)
    app.state.scratch = ScratchSpace(settings.scratch(), SCRATCH_REQUESTS * settings.max_request_bytes)
    services = settings, app.state.database, app.state.blobs, app.state.serving, app.state.scratch
    app.state.services = Services(*services)
    app.state.submission = JobSubmission(*services)
    app.state.importer = ModelImport(*services)
    app.state.pile_features = PileFeatureStore(app.state.database, app.state.blobs, app.state.serving)
    app.state.checks = health.Checks(app.state)
    app.state.stopping = threading.Event()
    app.state.event_source = EventSource(app.state.database, app.state.stopping)

    problems.install(app)
    app.include_router(health.router)
    app.include_router(web.router)
    app.mount("/page/swagger", web.swagger)  # compressing 1.5 MB takes longer than a classification
    app.mount("/page", GZipMiddleware(web.files))
    resources = (
        classify.router,  # routes are matched in order, and this one is called most often
        jobs.adapt_router,
        jobs.router,
        report.router,
        images.router,
        models.router,
        aliases.router,
        evaluation.router,
        piles.router,
        samples.router,
        images.page_router,
        backbones.router,
        metrics.router,
    )
    for router in resources:
        app.include_router(router, dependencies=[Depends(bearer_scheme)])
    compat.install(app)
    metrics.install(app)
    # The last middleware added is the outermost.
    app.add_middleware(LargeResponses)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_request_bytes,
        memory=app.state.memory,
        disk=app.state.scratch,
        upload_paths=UPLOAD_PATHS,
        memory_paths=MEMORY_PATHS,
    )
    app.add_middleware(
        AuthMiddleware,
        settings=settings,
        database=app.state.database,
        last_use=app.state.last_use,
        refusals=Refusals(app.state.registry),
    )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestId)
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign]
    return app


def _warm_up(app: FastAPI) -> None:
    app.state.serving.warm_up()
    app.state.serving.follow_default()
