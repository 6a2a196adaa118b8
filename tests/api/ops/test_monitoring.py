"""Alert rules and dashboard: valid PromQL, and only metrics and labels that the processes export."""

import json
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.api.conftest import MakeService
from tests.deploy.files import ROOT
from worker.metrics import DispatcherMetrics, WorkerMetrics

ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())["groups"][
    0
]["rules"]
PANELS: list[dict[str, Any]] = json.loads((ROOT / "deploy/monitoring/grafana.json").read_text())["panels"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}


def selectors(node: Any) -> Iterator[Any]:
    """Yield the vector selectors of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    else:
        for name in ("lhs", "rhs", "expr", "param"):
            yield from selectors(getattr(node, name)) if hasattr(node, name) else ()
        for argument in getattr(node, "args", ()):
            yield from selectors(argument)


@pytest.fixture
def exported(make_service: MakeService) -> dict[str, set[str]]:
    """Return the labels of each exported series of API, worker and dispatcher, by name."""
    service = make_service()
    service.client.post("/classify")  # a request, so that its metrics have a label
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    DispatcherMetrics(registry)
    labels: dict[str, set[str]] = {}
    for metric in [*service.app.state.registry.collect(), *registry.collect()]:
        for sample in metric.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
        # A counter or histogram with labels has no sample until its first event.
        if metric.type == "counter":
            labels.setdefault(f"{metric.name}_total", set())
        if metric.type == "histogram":
            labels.setdefault(f"{metric.name}_bucket", set())
    return labels


def test_every_metric_exists(exported: dict[str, set[str]]) -> None:
    used = {name: {s.name for s in selectors(promql_parser.parse(e))} for name, e in EXPRESSIONS.items()}
    assert all(used.values())
    unknown = {name: metrics - exported.keys() for name, metrics in used.items()}
    assert {name: metrics for name, metrics in unknown.items() if metrics} == {}
