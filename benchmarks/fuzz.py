"""Fuzz the service with schemathesis, against its own OpenAPI document.

    python -m benchmarks.fuzz --examples 200

The benchmark starts its own service with a key, a tiny network and a model. Each operation gets valid
and invalid examples, the boundary values of each parameter, and sequences of calls. A second round repeats
the operations with an id in their path, with the ids of an existing job and model.

The exit status is 1 after a 5xx response, an undocumented status, content type, header or body, an accepted
invalid request, or an operation that is open without the key. Checks that depend on the data are left out: a
well-formed id, cursor or image may still be refused.
"""

import argparse
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.running_api import running_api
from core.clip.models.backbone import load_backbone
from core.store.db import migrate
from core.store.db.session import Database
from core.store.registry import aliases
from core.store.storage.blobs import Blobs
from tests.core.clip.tiny import make_tiny_backbone
from tests.core.serving.adapted import publish_model
from tests.core.store import samples


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--examples", type=int, default=200, help="number of examples per operation and mode (default 200)"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as folder:
        ids = _prepare(Path(folder))
        environment = {
            "CLIPCITE_DATA": f"{folder}/data",
            "CLIPCITE_CACHE": f"{folder}/cache",
            "CLIPCITE_BACKBONE": f"local-dir:{folder}/backbone",
            "CLIPCITE_ADMIN_KEY": key,
        }
        with running_api(environment) as api:
            without_ids = _fuzz(api.url, key, options.examples, options.seed, Path(folder), {})
            # DELETE would remove the existing job and model; the first round covers it.
            more = ("--exclude-method", "DELETE", "--include-path-regex", "{")
            with_ids = _fuzz(api.url, key, options.examples, options.seed, Path(folder), ids, *more)
    return without_ids or with_ids


def _prepare(folder: Path) -> dict[str, str]:
    """Fill a new database with a job, a model and an alias. Return their ids by path parameter."""
    url = f"sqlite:///{folder / 'data' / 'clipcite.db'}"
    migrate.upgrade(url)
    name = make_tiny_backbone(folder / "backbone")
    database, blobs = Database(url), Blobs((folder / "data" / "blobs").as_uri())
    model = publish_model(database, blobs, load_backbone(name, cache=folder / "cache"), name="shoes")
    job = samples.new_job(database)
    with database.write() as session:
        aliases.promote(session, "shoes", "prod", model, owner=samples.OWNER)
    database.close()
    return {"job_id": job, "model_id": model, "name": "shoes", "alias": "prod"}


def _fuzz(
    url: str, key: str, examples: int, seed: int, folder: Path, ids: Mapping[str, str], *more: str
) -> int:
    """Run schemathesis and return its exit status. `ids` fixes the values of path parameters."""
    config = folder / "schemathesis.toml"
    values = "\n".join(f'"path.{name}" = "{value}"' for name, value in ids.items())
    config.write_text(f"[parameters]\n{values}\n")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"]
    command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    command += ["--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"]
    # Disable the warnings about missing links and example ids: the second round supplies the ids.
    command += ["--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "180", *more]
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
