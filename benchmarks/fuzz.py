"""Does the service do what its OpenAPI document says, whatever is sent to it? schemathesis asks.

    python -m benchmarks.fuzz --examples 200

A service of its own is started, with a key, a tiny network and a model. Every operation gets so many
examples that fit the document and so many that do not, the borders of every parameter, and sequences of
calls; then those with an id in their path once more with the ids of a job and a model that exist. It
fails (status 1) on an answer of 5xx, on a status, content type, header or body that is not in the document,
on a bad request that is accepted, and on an operation that is open without the key.

Left out is only what depends on the data: whether a well-formed id, cursor or image is a good one.
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
    parser.add_argument("--examples", type=int, default=200, help="for each operation and mode")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as folder:
        ids = _prepare(Path(folder))
        environment = {
            "CLIPCITE_DATA": f"{folder}/data",
            "CLIPCITE_CACHE": f"{folder}/cache",
            "CLIPCITE_BACKBONE": f"local-dir:{folder}/backbone",
            "CLIPCITE_API_KEY": key,
        }
        with running_api(environment) as api:
            strangers = _ask(api.url, key, given.examples, given.seed, Path(folder), {})
            # DELETE would leave nothing to ask for; the first round has it.
            more = ("--exclude-method", "DELETE", "--include-path-regex", "{")
            owners = _ask(api.url, key, given.examples, given.seed, Path(folder), ids, *more)
    return strangers or owners


def _prepare(folder: Path) -> dict[str, str]:
    """A migrated database with a job, a model and an alias; their ids by the names of path parameters."""
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


def _ask(
    url: str, key: str, examples: int, seed: int, folder: Path, ids: Mapping[str, str], *more: str
) -> int:
    """The exit status of schemathesis, which prints what it found. Path parameters named in `ids` have
    that value."""
    config = folder / "schemathesis.toml"
    values = "\n".join(f'"path.{name}" = "{value}"' for name, value in ids.items())
    config.write_text(f"[parameters]\n{values}\n")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"]
    command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    command += ["--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"]
    # The document has no links, and the two rounds are for the ids that it has no examples of.
    command += ["--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "180", *more]
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
