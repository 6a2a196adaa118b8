"""The script that creates the secrets of the compose file."""

import subprocess
from pathlib import Path

from tests.deploy.files import ROOT, compose


def make(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(ROOT / "deploy" / "secrets.sh"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_script_makes_all_secrets_of_the_compose_file(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    done = make(folder)
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert set(made) == {*compose()["secrets"], "garage.env"}
    assert made["clipcite_database_url"] == (
        f"postgresql://clipcite:{made['postgres_password']}@postgres/clipcite"
    )
    password = made["valkey_config"].removeprefix("requirepass ")
    assert made["clipcite_redis_url"] == f"redis://:{password}@redis/0"
    environment = dict(line.split("=", 1) for line in made["garage.env"].splitlines())
    assert made["aws_credentials"].splitlines() == [
        "[default]",
        f"aws_access_key_id={environment['GARAGE_DEFAULT_ACCESS_KEY']}",
        f"aws_secret_access_key={environment['GARAGE_DEFAULT_SECRET_KEY']}",
    ]
    for name, secret in made.items():
        assert secret not in done.stdout + done.stderr, name


def test_only_the_owner_gets_into_the_folder_and_containers_can_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes.pop("garage.env") == 0o600
    assert set(modes.values()) == {0o644}


def test_two_machines_have_different_ones(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_text() != (tmp_path / "two" / path.name).read_text()


def test_existing_ones_are_left_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    done = make(folder)
    assert done.returncode == 1
    assert "Move it away" in done.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
