"""The tools for assistants, by the SDK's client in memory and by its inspector's command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from clipcite import Client
from tests.neighbours.conftest import CLASSES, ENVIRONMENT, NODE, Neighbours

INSPECTOR = "node_modules/.bin/mcp-inspector"
PROGRAM = """
import asyncio, clipcite, json, os
from pathlib import Path
from clipcite.bridges.mcp import make_server
from mcp import Client

async def main():
    root = Path(os.environ["IMAGE"]).parents[1]
    async with Client(make_server(clipcite.Client(os.environ["URL"], "wrong"), root)) as client:
        answer = await client.call_tool("list_models", {})
        no_key = answer.content[0].text if answer.is_error else ""
    async with Client(make_server(clipcite.Client(os.environ["URL"], os.environ["KEY"]), root)) as client:
        async def call(tool, **given):
            answer = await client.call_tool(tool, given)
            return answer.content[0].text if answer.is_error else answer.structured_content
        job = await call("adapt", folder=".", name="from-assistant")
        said = {
            "models": await call("list_models"),
            "classes": await call("classify_images", paths=["boot/0.jpg"], model="shoes@prod"),
            "outside": await call("classify_images", paths=["../secret.jpg"], model="shoes@prod"),
            "unknown": await call("classify_images", paths=["boot/0.jpg"], model="hats"),
            "no key": no_key,
            "checked": await call("check_images", folder="."),
            "job": job,
            "status": await call("job_status", id=job["job"]),
            "report": await call("report", id=os.environ["JOB"]),
            "sorted": await call("sort_folder", folder="boot", model="shoes@prod"),
        }
    print(json.dumps(said))

asyncio.run(main())
"""


def test_the_tools_in_memory(neighbours: Neighbours, client: Client, folder: Path) -> None:
    job = client.models.get("shoes@prod").job_id
    said = neighbours.python(PROGRAM.replace('os.environ["JOB"]', repr(job)))
    assert said["models"]["result"][-1]["model"] == "shoes@1"
    best = client.classify(neighbours.image, model="shoes@prod").results[0].predictions
    probabilities = {p.class_name: pytest.approx(p.probability) for p in best}
    assert said["classes"]["result"] == [{"file": "boot/0.jpg", "probabilities": probabilities}]
    assert f"../secret.jpg is outside {folder}" in said["outside"]
    assert "There is no model 'hats'. `clipcite models list` lists your models." in said["unknown"]
    assert "401 token_needed" in said["no key"]
    assert said["checked"]["images"] == 8
    assert said["status"]["status"] in {"queued", "running", "succeeded"}
    assert said["report"]["verdict"]
    copies = [path.relative_to(folder) for path in folder.glob("boot-sorted/*/*.jpg")]
    assert len(copies) == sum(said["sorted"]["images"].values()) == 4
    assert {path.parts[1] for path in copies} <= set(CLASSES)
    neighbours.run("sh", "-c", f"{ENVIRONMENT}/bin/{said['sorted']['undo']}")
    assert not list(folder.glob("boot-sorted/*/*"))
    client.jobs.cancel(said["job"]["job"])


def test_the_inspector(neighbours: Neighbours, folder: Path) -> None:
    def inspect(*options: str) -> Any:
        [node] = ENVIRONMENT.glob(NODE)
        command = [ENVIRONMENT / "bin" / "clipcite", "mcp", "--root", folder]
        known = ["-e", f"CLIPCITE_URL={neighbours.url}", "-e", f"CLIPCITE_API_KEY={neighbours.key}"]
        return json.loads(neighbours.run(node, INSPECTOR, "--cli", *options, *known, "--", *command))

    tools = [tool["name"] for tool in inspect("--method", "tools/list")["tools"]]
    assert tools[:2] == ["classify_images", "list_models"]
    said = inspect("--method", "tools/call", "--tool-name", "list_models")
    assert said["structuredContent"]["result"][-1]["classes"] == list(CLASSES)
