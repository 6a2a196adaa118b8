"""Test a client, generated from /openapi.json by openapi-python-client, on the running service.

    clipcite serve --no-token --data data
    python -m benchmarks.generated_client --url http://127.0.0.1:8000

The generator is installed from PyPI into a fresh environment, because it needs other package versions than
clipcite. The generated client then adapts, polls and classifies.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import httpx

GENERATOR = ("openapi-python-client>=0.29,<0.30", "pillow>=12.3,<14")
SETTINGS = "content_type_overrides: {application/zip: application/octet-stream}"
"""Setting of the generator: it recognises files by this content type only."""
SESSION = """
import io, sys, time, zipfile
from PIL import Image
from generated import AuthenticatedClient, Client
from generated.api.adapt import adapt
from generated.api.classify import classify
from generated.api.jobs import get_job
from generated.api.models import list_models
from generated.models import BodyAdapt, ClassifyForm, ClassifyJson, ImageIn, Problem
from generated.types import File

url, key = sys.argv[1:]
client = AuthenticatedClient(url, key) if key else Client(url)


def image(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(buffer, "PNG")
    return buffer.getvalue()


archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as opened:
    for i in range(4):
        opened.writestr(f"red/{i}.png", image((240 - i, 20, 20)))
        opened.writestr(f"green/{i}.png", image((20, 240 - i, 20)))
archive.seek(0)
upload = BodyAdapt(archive=File(archive, "shots.zip", "application/zip"), config='{"epochs": 2}')
job = adapt.sync(client=client, body=upload, idempotency_key=f"generated-{time.time()}")
assert not isinstance(job, Problem), job
while job.status not in {"succeeded", "failed", "cancelled"}:
    job = get_job.sync(job.id, client=client, wait=20)
assert job.status == "succeeded", job
files = [File(io.BytesIO(image(c)), f"{c[0]}.png", "image/png") for c in ((240, 20, 20), (20, 20, 240))]
form = ClassifyForm(class_names=["red", "blue"], images=files, model=job.model_id, top_k=1)
answer = classify.sync(client=client, body=form)
assert not isinstance(answer, Problem), answer
assert {c.name: c.kind for c in answer.class_names} == {"red": "trained", "blue": "new"}
import base64
small = ImageIn(base64=base64.b64encode(image((240, 20, 20))).decode())
as_json = ClassifyJson(class_names=["red", "blue"], images=[small], model=job.model_id)
again = classify.sync(client=client, body=as_json)
assert again.results[0].predictions[0].class_name == answer.results[0].predictions[0].class_name
refused = get_job.sync("job_x", client=client)
assert isinstance(refused, Problem) and refused.code == "job_not_found", refused
assert job.model_id in [one.id for one in list_models.sync(client=client).data]
print("The generated client adapted, polled and classified:", [r.predictions[0] for r in answer.results])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="", help="API key (default: none)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipcite-generated-") as folder:
        root = Path(folder)
        python = root / "venv" / "bin" / "python"
        venv.create(root / "venv", with_pip=True)
        _run(python, "-m", "pip", "install", "--quiet", *GENERATOR)
        (root / "openapi.json").write_bytes(
            httpx.get(f"{options.url}/openapi.json").raise_for_status().content
        )
        command_line = [
            "--path",
            "openapi.json",
            "--meta",
            "none",
            "--output-path",
            "generated",
            "--fail-on-warning",
            "--config",
            "generator.yml",
        ]
        (root / "generator.yml").write_text(SETTINGS)
        _run(python.with_name("openapi-python-client"), "generate", *command_line, cwd=root)
        (root / "session.py").write_text(SESSION)
        _run(python, "session.py", options.url, options.key, cwd=root)


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    # The generator formats with its own ruff, which it finds through PATH.
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{Path(command[0]).name} ended with status {done.returncode}.")


if __name__ == "__main__":
    main()
