"""Generated parts of the reference pages: `python -m docs.generate` writes them; `--check` only compares.

Each part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from api.app import create_app
from core.clip.config import AdaptConfig, resolve_config
from core.settings import Settings
from core.store.db.migrate import upgrade
from docs.error_codes import all_codes
from worker.metrics import DispatcherMetrics, WorkerMetrics

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
USER_FOLDERS = {"data": "the user's data folder", "cache": "the user's cache folder"}


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def settings() -> str:
    """Return a table per group of settings, in the order of `core/settings.py`."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name, setting in Settings.model_fields.items():
        assert isinstance(setting.json_schema_extra, dict)
        default = USER_FOLDERS.get(name) or (f"`{setting.default}`" if setting.default is not None else "–")
        row = (f"`CLIPCITE_{name.upper()}`", default, setting.description or "")
        groups.setdefault(str(setting.json_schema_extra["group"]), []).append(row)
    head = ("variable", "default", "description")
    return "\n".join(f"## {group}\n\n{table(head, rows)}" for group, rows in groups.items())


def training_config() -> str:
    starter, paper = resolve_config(backbone="starter"), resolve_config(backbone="ViT-B-16/openai")
    rows = []
    for name, field in AdaptConfig.model_fields.items():
        values = [_json(getattr(config, name)) for config in (starter, paper)]
        if name == "backbone":
            values = ["`CLIPCITE_BACKBONE`"] * 2
        rows.append((f"`{name}`", *values, field.description))
    return table(("field", "starter", "other models", "description"), rows)


def _json(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`" if isinstance(value, str) else "none" if value == {} else str(value)


def api_metrics() -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), cache=Path(folder))
        upgrade(settings.sqlalchemy_url())
        app = create_app(settings)
        app.build_middleware_stack()  # registers the metrics of requests
        try:
            return _metrics(app.state.registry)
        finally:
            app.state.database.close()


def worker_metrics() -> str:
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    return _metrics(registry)


def dispatcher_metrics() -> str:
    registry = CollectorRegistry()
    DispatcherMetrics(registry)
    return _metrics(registry)


def _metrics(registry: CollectorRegistry) -> str:
    rows = []
    for metric, labels in _families(registry):
        if metric.name.startswith(("clipcite_", "http_")):
            name = metric.name + ("_total" if metric.type == "counter" else "")
            shown = ", ".join(f"`{label}`" for label in labels) or "–"
            rows.append((f"`{name}`", metric.type, shown, metric.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


def _families(registry: CollectorRegistry) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            source = collector if isinstance(collector, MetricWrapperBase) else metric
            yield metric, tuple(getattr(source, "_labelnames", ()))


def responses() -> str:
    rows = [(f"`{code}`", status, text) for (status, code), text in sorted(all_codes().responses.items())]
    return table(("code", "status", "message"), rows)


def image_errors() -> str:
    return _by_code(all_codes().images)


def job_errors() -> str:
    return _by_code(all_codes().jobs)


def warnings() -> str:
    return _by_code(all_codes().warnings)


def findings() -> str:
    rows = [(f"`{one}`", f"`{many}`", text) for (one, many), text in sorted(all_codes().findings.items())]
    return table(("finding", "warning of the job", "text of the warning"), rows)


def _by_code(messages: dict[str, str]) -> str:
    return table(("code", "message"), [(f"`{code}`", text) for code, text in sorted(messages.items())])


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "training-config": training_config,
    "api-metrics": api_metrics,
    "worker-metrics": worker_metrics,
    "dispatcher-metrics": dispatcher_metrics,
    "responses": responses,
    "image-errors": image_errors,
    "job-errors": job_errors,
    "warnings": warnings,
    "findings": findings,
}


def regenerated(page: str) -> str:
    """Return the text of a page with its generated parts."""
    return PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", page)


def outdated() -> list[Path]:
    """List the pages whose generated parts differ from the code."""
    return [page for page in PAGES if (text := page.read_text(encoding="utf-8")) != regenerated(text)]


def main() -> int:
    pages = outdated()
    for page in pages:
        sys.stdout.write(f"{page.name} {'differs' if '--check' in sys.argv else 'written'}\n")
        if "--check" not in sys.argv:
            page.write_text(regenerated(page.read_text(encoding="utf-8")), encoding="utf-8")
    return int(bool(pages) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
