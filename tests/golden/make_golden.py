"""Write the golden data folder of this version: `python -m tests.golden.make_golden`.

Run it once per release, in a checkout of the release. A real service makes the data: models in 4 bits and in
full with reports and support sets, an alias that was moved, a key, a job that is queued, and one whose worker
was killed after a checkpoint. `expected.json` has the answers that later versions must give.
"""

import io
import json
import shutil
import signal
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from core.store.accounts import api_keys
from core.store.db.session import Database
from tests.core.clip.tiny import PREPROCESS
from tests.service.running import Hold, checkpoint, colours, serve, wait_for_job

PLACE = Path("/tmp/clipcite-golden")
"""Folder in which the data lay when it was made. Rows and manifests name the backbone by its path."""
BACKBONE = f"local-dir:{PLACE / 'backbone'}"
HERE = Path(__file__).parent
EXPECTED = "expected.json"
CLASS_NAMES = ["red", "green", "blue", "a robot"]
MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
PATTERN = 64
"""Number of distinct token embeddings. Their repetition keeps the archive small."""
QUICK = {"epochs": 4, "batch_size": 4}
LONG = {"epochs": 12, "batch_size": 4}
ENVIRONMENT = {
    "CLIPCITE_BACKBONE": BACKBONE,
    "CLIPCITE_CACHE": str(PLACE / "cache"),
    "CLIPCITE_DEVICE": "cpu",
    "PYTHON_CHECKPOINT_SECONDS": "0",
    "CLIPCITE_REQUIRE_TOKEN": "false",
    "OMP_NUM_THREADS": "1",
}


def main() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    write_backbone(PLACE / "backbone")
    hold = Hold(PLACE / "hold")
    expected: dict[str, Any] = {"version": version("clipcite")}
    with serve(PLACE / "data", {**ENVIRONMENT, **hold.environment}) as service, service.http as http:
        expected["jobs"] = [
            send(http, colours(shots=6, tests=3), "things", **QUICK, delta_format=kind)
            for kind in ("4bit", "full")
        ]
        done = [wait_for_job(http, job_id) for job_id in expected["jobs"]]
        assert [job["status"] for job in done] == ["succeeded", "succeeded"], done
        expected["models"] = [job["model_id"] for job in done]
        for model in expected["models"]:
            http.put("/models/things/aliases/prod", json={"model": model}).raise_for_status()
        expected["answers"] = [
            classify(http, model, alpha) for model in expected["models"] for alpha in (0.5, 1)
        ]
        hold.at(20)
        expected["interrupted"] = send(http, colours(shots=6), "interrupted", **LONG)
        expected["epoch"] = checkpoint(http, expected["interrupted"])
        expected["queued"] = send(http, colours(), "queued", **QUICK)
        for process in reversed(service.processes()):
            process.send_signal(signal.SIGKILL)
    database = Database(f"sqlite:///{PLACE / 'data' / 'clipcite.db'}")
    with database.write() as session:
        expected["key"] = api_keys.create(session, owner="default", scopes=["admin"], name="golden").key
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    shutil.rmtree(PLACE / "data" / "tmp", ignore_errors=True)
    (PLACE / EXPECTED).write_text(json.dumps(expected, indent=1), encoding="utf-8")
    archive = HERE / f"{expected['version']}.tar.xz"
    with tarfile.open(archive, "w:xz", preset=9) as file:
        for name in ("data", "backbone", EXPECTED):
            file.add(PLACE / name, name)
    sys.stdout.write(f"{archive.relative_to(Path.cwd())}: {archive.stat().st_size:,} bytes\n")


def write_backbone(folder: Path) -> None:
    """Write a tiny network whose token embeddings repeat."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL)
    with torch.no_grad():
        rows = model.token_embedding.weight
        rows.copy_(rows[:PATTERN].repeat(-(-len(rows) // PATTERN), 1)[: len(rows)])
    content = json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}, indent=2)
    (folder / "open_clip_config.json").write_text(content)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def send(http: httpx.Client, archive: bytes, name: str, **config: Any) -> str:
    """Submit a job and return its id."""
    fields = {"name": name, "config": json.dumps(config)}
    answer = http.post("/adapt", data=fields, files={"archive": ("shots.zip", archive)})
    job_id: str = answer.raise_for_status().json()["id"]
    return job_id


def classify(http: httpx.Client, model: str, alpha: float) -> dict[str, Any]:
    """Classify two fixed images. Return the request and the predictions."""
    images = []
    for name, shade in (("red", (200, 30, 40)), ("mixed", (120, 130, 60))):
        data = io.BytesIO()
        Image.new("RGB", (48, 40), shade).save(data, "PNG")
        images.append(("images", (f"{name}.png", data.getvalue())))
    fields = {"model": model, "alpha": str(alpha), "class_names": json.dumps(CLASS_NAMES)}
    answer = http.post("/classify", data=fields, files=images).raise_for_status().json()
    predictions = [
        {p["class_name"]: [p["probability"], p["similarity"]] for p in result["predictions"]}
        for result in answer["results"]
    ]
    return {"model": model, "alpha": alpha, "predictions": predictions}


if __name__ == "__main__":
    main()
