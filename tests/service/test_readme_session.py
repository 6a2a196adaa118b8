"""The session of the README, run as it is pasted."""

import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.service.running import Service

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_session_works_as_pasted(service: Service, tmp_path: Path) -> None:
    """With plain pictures instead of the demo's, which come over the network."""
    found = re.search(r"<!-- session -->\n```bash\n(.*?)```", README, re.DOTALL)
    assert found
    script = found.group(1)
    export = ".venv/bin/python -m demo.export pictures\n"
    assert export in script
    script = script.replace(export, "").replace("http://127.0.0.1:8000", service.url)
    for split in ("train", "test"):
        for number, name in enumerate(("bird", "fish", "fruit", "hat")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (40, 40), (60 * number, 20 * i, 90)).save(folder / f"{i} {name}.png")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    job, answer = (json.loads(text) for text in re.split(r"(?<=})(?={)", done.stdout))
    assert job["status"] == "succeeded"
    kinds = {c["name"]: c["kind"] for c in answer["class_names"]}
    assert kinds == {"bird": "trained", "fish": "trained", "fruit": "trained", "hat": "new"}
    assert [len(result["predictions"]) for result in answer["results"]] == [2, 2]
