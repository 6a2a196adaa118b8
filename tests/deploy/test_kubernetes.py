"""The Kubernetes file: valid, complete and hardened. The tests need no cluster."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from core.settings import Settings
from tests.deploy.files import ROOT, own_services

DOCUMENTS: list[dict[str, Any]] = [
    *yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
]
SETTINGS = {f"CLIPCITE_{name.upper()}" for name in Settings.model_fields}
PODS: dict[str, dict[str, Any]] = {
    d["metadata"]["name"]: d["spec"]["template"] for d in DOCUMENTS if d["kind"] == "Deployment"
}
CONTAINERS: list[dict[str, Any]] = [
    container
    for pod in PODS.values()
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_each_document_fits_the_schema(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.31", strict=True)


def test_the_processes_are_those_of_compose() -> None:
    services = own_services()
    names = ("migrate", "api", "worker", "dispatcher")
    assert [c["args"] for c in CONTAINERS] == [services[name]["command"] for name in names]


def test_every_variable_is_a_setting() -> None:
    values = next(d for d in DOCUMENTS if d["kind"] == "ConfigMap")["data"]
    ours = {name: value for name, value in values.items() if name.startswith("CLIPCITE_")}
    assert ours.keys() <= SETTINGS
    Settings(**{name.removeprefix("CLIPCITE_").lower(): value for name, value in ours.items()})


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_hardened(name: str) -> None:
    """They fit the profile `restricted`, and only the API gets the admin key."""
    pod = PODS[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    keys = {item["key"] for item in volumes["secrets"]["secret"].get("items", [])}
    assert keys == (set() if name == "api" else {*own_services()["worker"]["secrets"]})


def test_selectors_match_their_pods() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    for document in DOCUMENTS:
        if document["kind"] == "Deployment":
            assert document["spec"]["selector"]["matchLabels"] == labels[document["metadata"]["name"]]
        if document["kind"] == "Service":
            assert document["spec"]["selector"] == labels["api"]
        if document["kind"] == "NetworkPolicy":
            [chosen] = document["spec"]["podSelector"]["matchExpressions"]
            assert {*chosen["values"]} == {labels[name][chosen["key"]] for name in ("worker", "dispatcher")}
