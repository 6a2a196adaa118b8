"""The queries of docs/operate/monitor.md: only metrics and labels that the processes export."""

import re

from prometheus_client import CollectorRegistry

from tests.api.conftest import MakeService
from tests.deploy.files import ROOT
from worker.metrics import DispatcherMetrics, WorkerMetrics

QUERY = re.compile(r"^\| `([^`]*[<>=]=? [\d.]+)` \|", re.MULTILINE)
SELECTOR = re.compile(r"\b((?:clipcite|http)_\w+)(?:\{(\w+)=)?")


def test_every_query_has_metrics_that_exist(make_service: MakeService) -> None:
    service = make_service()
    service.client.post("/classify")  # a request, so that its metrics have a label
    registry = CollectorRegistry()
    WorkerMetrics(registry).record_end("failed", "x")
    DispatcherMetrics(registry)
    exported = {
        sample.name: sample.labels
        for metric in [*service.app.state.registry.collect(), *registry.collect()]
        for sample in metric.samples
    }
    queries = QUERY.findall((ROOT / "docs/operate/monitor.md").read_text(encoding="utf-8"))
    assert len(queries) == 5
    for query in queries:
        selectors = SELECTOR.findall(query)
        assert selectors
        for name, label in selectors:
            assert name in exported
            assert not label or label in exported[name]
