"""The compose file: valid, complete and hardened. The tests need no container engine."""

import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from tests.deploy.files import COMPOSE, compose, lineage, own_services

FILE = compose()
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
SETTINGS = {f"CLIPCITE_{name.upper()}" for name in Settings.model_fields}


def against_schema(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_file_fits_the_schema_of_compose() -> None:
    done = against_schema(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_every_variable_of_ours_is_a_setting() -> None:
    named = {name for service in own_services().values() for name in service["environment"]}
    assert {name for name in named if not name.startswith("AWS_")} <= SETTINGS
    secrets = {name for service in own_services().values() for name in service["secrets"]}
    assert {name.upper() for name in secrets - {"aws_credentials"}} <= SETTINGS


@pytest.mark.parametrize("kind", ["secrets", "volumes", "networks", "configs"])
def test_everything_used_is_defined_and_everything_defined_is_used(kind: str) -> None:
    used = set()
    for service in SERVICES.values():
        for item in service.get(kind, []):
            used.add(item["source"] if isinstance(item, dict) else item.split(":")[0])
    assert used == set(FILE[kind])


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["pids_limit"] == 1024
    assert service["mem_limit"]
    assert "cpus" in service
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    # `up --wait` waits for health. In some versions, a check that is turned off makes it fail.
    assert ("healthcheck" in service) == (name != "migrate")
    assert not service.get("healthcheck", {}).get("disable")


def test_the_image_has_no_check_of_its_own() -> None:
    assert not [line for stage in lineage("cpu") for line in stage.of("HEALTHCHECK")]


@pytest.mark.parametrize(
    ("name", "port", "path"),
    [("api", 8000, "/readyz"), ("worker", 9100, "/metrics"), ("dispatcher", 9101, "/metrics")],
)
@pytest.mark.parametrize("good", [True, False])
def test_a_health_check_asks_its_process(name: str, port: int, path: str, good: bool) -> None:
    class Process(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if good and self.path == path else 503)
            self.end_headers()

    kind, python, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python")
    with HTTPServer(("127.0.0.1", 0), Process) as server:
        threading.Thread(target=server.handle_request).start()
        arguments = [argument.replace(str(port), str(server.server_port)) for argument in arguments]
        assert (subprocess.run([sys.executable, *arguments], check=False).returncode == 0) == good


def test_the_ports_of_the_health_checks_are_open() -> None:
    for name in ("worker", "dispatcher"):
        assert SERVICES[name]["environment"]["CLIPCITE_METRICS_PORT"] == "9100"  # the dispatcher adds one


def test_only_the_api_is_reachable_and_from_this_machine_only() -> None:
    assert {name: s["ports"] for name, s in SERVICES.items() if "ports" in s} == {
        "api": ["127.0.0.1:8000:8000"],
        "api-gpu": ["127.0.0.1:8000:8000"],
    }
    assert FILE["networks"]["backend"] == {"internal": True}
    for name in ("postgres", "redis", "s3"):
        assert SERVICES[name]["networks"] == ["backend"]


def test_nothing_starts_before_the_migration_and_no_service_waits_for_a_missing_one() -> None:
    for name, service in own_services().items():
        awaited = service["depends_on"]
        assert set(awaited) <= set(SERVICES)
        if name != "migrate":
            assert awaited["migrate"] == {"condition": "service_completed_successfully"}
        for other, how in awaited.items():
            assert "profiles" not in SERVICES[other] or how["required"] is False


@pytest.mark.parametrize(
    ("name", "like", "profile", "gpu"),
    [
        ("api-gpu", "api", "gpu", "0"),
        ("worker-gpu", "worker", "gpu", "0"),
        ("worker-gpu-2", "worker", "gpu2", "1"),
    ],
)
def test_a_service_with_a_gpu_differs_in_nothing_else(name: str, like: str, profile: str, gpu: str) -> None:
    on_cpu, on_gpu = dict(SERVICES[like]), dict(SERVICES[name])
    assert on_gpu.pop("profiles") == [profile]
    assert on_gpu.pop("deploy")["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "device_ids": [gpu], "capabilities": ["gpu"]}
    ]
    assert (on_cpu.pop("image"), on_gpu.pop("image")) == ("clipcite:cpu", "clipcite:cuda")
    assert (on_cpu.pop("build")["target"], on_gpu.pop("build")["target"]) == ("cpu", "cuda")
    assert on_cpu.pop("scale") == 1
    if name == "worker-gpu":  # the API has the same GPU
        on_gpu["environment"] = dict(on_gpu["environment"])
        assert int(on_gpu["environment"].pop("CLIPCITE_SERVING_RESERVE_BYTES")) == 4_000_000_000
    assert on_cpu == on_gpu


def test_the_services_with_a_gpu_replace_those_without() -> None:
    services = compose(CPU_APIS="0", CPU_WORKERS="0")["services"]
    assert {name for name, service in services.items() if service.get("scale") == 0} == {"api", "worker"}


def test_without_a_profile_the_whole_service_runs() -> None:
    started = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert started == {"api", "dispatcher", "worker", "migrate", "redis", "postgres"}


def test_no_secret_is_written_down() -> None:
    for name, secret in FILE["secrets"].items():
        assert secret == {"file": f"deploy/secrets/{name}"}
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            secret = re.search("PASSWORD|SECRET|KEY", variable)
            assert not secret or variable.endswith("_FILE"), (name, variable)
