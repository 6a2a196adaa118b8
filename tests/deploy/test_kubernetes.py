"""The Kubernetes manifests: valid, complete and hardened. The tests need no cluster."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from clipcite.cli.main import app
from core.settings import Settings
from tests.deploy.files import ROOT, own_services

FOLDER = ROOT / "deploy" / "kubernetes"
SETTINGS = {f"CLIPCITE_{name.upper()}" for name in Settings.model_fields}
VERSION = "1.31"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kustomization(folder: Path) -> dict[str, Any]:
    return documents(folder / "kustomization.yaml")[0]


MANIFESTS = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in documents(path)
]
PODS = {
    d["metadata"]["name"]: d["spec"]["template"] for _, d in MANIFESTS if d["kind"] in {"Deployment", "Job"}
}
CONTAINERS: dict[str, dict[str, Any]] = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}


@pytest.mark.parametrize(
    "manifest", [d for _, d in MANIFESTS], ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_each_manifest_fits_the_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_every_file_is_a_resource() -> None:
    assert set(kustomization(FOLDER)["resources"]) == {name for name, _ in MANIFESTS}
    overlay = kustomization(FOLDER / "gpu")
    assert [patch["path"] for patch in overlay["patches"]] == ["worker.yaml"]
    assert (FOLDER / "gpu" / overlay["resources"][0]).resolve() == FOLDER


def test_the_processes_are_those_of_compose() -> None:
    commands = {name: container["args"] for name, container in CONTAINERS.items()}
    services = own_services()
    assert commands == {
        name: services[name]["command"] for name in ("api", "dispatcher", "worker", "migrate")
    }


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_probe_and_command_exists(name: str) -> None:
    container = CONTAINERS[name]
    probe = container.get("livenessProbe", {}).get("exec")
    for command in [container["args"], *([probe["command"][1:2]] if probe else [])]:
        assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0


def test_every_variable_is_a_setting() -> None:
    settings = next(d for _, d in MANIFESTS if d["kind"] == "ConfigMap")["data"]
    named = {name for name in settings if name.startswith("CLIPCITE_")}
    named |= {variable["name"] for c in CONTAINERS.values() for variable in c.get("env", [])}
    assert named <= SETTINGS
    Settings(
        **{name.removeprefix("CLIPCITE_").lower(): value for name, value in settings.items() if name in named}
    )
    text = (FOLDER / "settings.yaml").read_text(encoding="utf-8")
    secrets = {word.strip(",;.").upper() for word in text.split() if word.startswith("clipcite_")}
    assert {"CLIPCITE_DATABASE_URL", "CLIPCITE_REDIS_URL"} <= secrets <= SETTINGS


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_pod_is_hardened(name: str) -> None:
    """The namespace enforces the profile `restricted`."""
    pod, container = PODS[name]["spec"], CONTAINERS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["envFrom"] == [{"configMapRef": {"name": "clipcite"}}]
    assert {"requests", "limits"} <= container["resources"].keys()
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounted["secrets"] == "/run/secrets"


def test_selectors_match_their_pods() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    for _, manifest in MANIFESTS:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in {"Deployment", "PodDisruptionBudget"}:
            assert manifest["spec"]["selector"]["matchLabels"] == labels[name]
        if kind == "Service":
            assert manifest["spec"]["selector"] == labels[name]
            assert manifest["spec"]["ports"][0]["targetPort"] in {
                p["name"] for p in CONTAINERS[name]["ports"]
            }
        if kind == "NetworkPolicy":
            selected = manifest["spec"]["podSelector"]["matchExpressions"][0]
            values = {label[selected["key"]] for label in labels.values()}
            assert set(selected["values"]) == values - {"api"}


def test_only_the_api_gets_the_admin_key() -> None:
    services = own_services()
    with_key = {name for name, service in services.items() if "clipcite_admin_key" in service["secrets"]}
    assert with_key == {"api", "api-gpu"}
    for name, pod in PODS.items():
        [secret] = [volume["secret"] for volume in pod["spec"]["volumes"] if volume["name"] == "secrets"]
        keys = {item["key"] for item in secret.get("items", [])}
        assert keys == (set() if name == "api" else {*services["worker"]["secrets"]})
