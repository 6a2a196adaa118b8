"""`clipcite mcp`: tools for assistants that speak the Model Context Protocol (MCP), over standard input."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcite.cli.connection import Exit, Key, Url, give_up
from clipcite.client.errors import APIStatusError, ClipCiteError, InvalidAddress
from clipcite.datasets.class_folders import images_below
from clipcite.datasets.detect import read

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from clipcite import AsyncClient, Classification, Dataset

INSTRUCTIONS = """Classify images and train image classifiers with clipcite. Paths are relative to {root}. A
model is a reference such as shoes@prod; `stock` is the pre-trained one and needs class_names. A training
takes minutes: `adapt` returns a job at once, `job_status` tells its state, `report` how good the model is."""


def command(
    root: Annotated[
        Path, typer.Option(help="Folder of the files that the tools may read.", exists=True, file_okay=False)
    ] = Path(),
    url: Url = None,
    key: Key = None,
) -> None:
    """Let an assistant classify, train and sort.

    A server of the Model Context Protocol. Assistants start this command themselves. No tool deletes or
    overwrites a file.
    """
    from clipcite import AsyncClient

    try:
        server = make_server(AsyncClient(url, key), root)
    except ModuleNotFoundError:
        give_up("The package mcp is missing. Run: pip install 'clipcite[mcp]'", Exit.USAGE)
    except InvalidAddress as error:
        give_up(str(error), Exit.USAGE)
    server.run("stdio")


def make_server(client: "AsyncClient", root: Path) -> "MCPServer":
    """Return the server of the tools, which read files below `root` only."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    root = root.resolve()
    server = MCPServer("clipcite", instructions=INSTRUCTIONS.format(root=root), log_level="WARNING")

    def tool(function: Callable[..., Any]) -> None:
        @wraps(function)
        async def explained(*args: Any, **given: Any) -> Any:
            try:
                return await function(*args, **given)
            except (ClipCiteError, OSError, ValueError) as error:  # others reach the assistant without text
                text = error.text("commands") if isinstance(error, APIStatusError) else str(error)
                raise ToolError(text) from error

        server.tool()(explained)

    def inside(path: str | Path) -> Path:
        found = (root / path).resolve()
        if not found.is_relative_to(root):
            raise ValueError(f"{path} is outside {root}. Start `clipcite mcp` with another --root.")
        return found

    def dataset(folder: str) -> "Dataset":
        found = read(inside(folder))
        for item in found.images:
            if item.image.path is not None:
                inside(item.image.path)
        return found

    @tool
    async def classify_images(
        paths: list[str], class_names: list[str] | None = None, model: str = "stock", top_k: int = 3
    ) -> list[dict[str, Any]]:
        """Rank class names for images, by default the classes that the model was trained on."""
        answer = await client.classify(
            [inside(path) for path in paths], class_names, model=model, top_k=top_k
        )
        return results(answer, paths)

    @tool
    async def list_models() -> list[dict[str, Any]]:
        """List the trained models, newest first."""
        return [
            {"model": f"{m.name}@{m.version}" if m.name else m.id, "id": m.id, "classes": m.trained_classes}
            async for m in client.models.list()
        ]

    @tool
    async def check_images(folder: str) -> dict[str, Any]:
        """Check a folder of labelled images, one sub-folder per class, before a training."""
        found = await client.preflight(dataset(folder))
        return {key: found.raw[key] for key in ("acceptable", "images", "good", "findings", "warnings")}

    @tool
    async def adapt(folder: str, name: str) -> dict[str, str]:
        """Start to train a model on a folder of labelled images. Return the id of the job at once."""
        job = await client.adapt(dataset(folder), name=name)
        return {"job": job.id, "status": job.status}

    @tool
    async def job_status(id: str) -> dict[str, Any]:
        """Return the state of a job, and the id of its model when there is one."""
        job = await client.jobs.get(id)
        return {key: job.raw[key] for key in ("status", "progress", "model_id", "warnings", "error")}

    @tool
    async def report(id: str) -> dict[str, Any]:
        """Return how good the model of a job is, and what would improve it."""
        found = await client.jobs.report(id)
        return {key: found.raw[key] for key in ("verdict", "summary", "recommendations", "label_issues")}

    @tool
    async def sort_folder(folder: str, model: str) -> dict[str, Any]:
        """Copy each image of a folder into `FOLDER-sorted/CLASS/`. Existing files stay as they are."""
        source = inside(folder)
        target = inside(source.with_name(f"{source.name}-sorted"))
        images = [image for image in images_below(source) if inside(image)]
        answer = await client.classify(images, model=model, top_k=1)
        classes = [r.predictions[0].class_name if r.predictions else "unreadable" for r in answer.results]
        for image, class_name in zip(images, classes, strict=True):
            copy = inside(target / re.sub(r"^\.|/", "_", class_name) / image.relative_to(source))
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(image, copy)
        return {"folder": str(target), "images": dict(Counter(classes))}

    return server


def results(answer: "Classification", paths: list[str]) -> list[dict[str, Any]]:
    """Return the predictions per file, or why it can't be read."""
    return [
        {"file": path, "error": result.error.detail}
        if result.error is not None
        else {"file": path, "probabilities": {p.class_name: p.probability for p in result.predictions or ()}}
        for path, result in zip(paths, answer.results, strict=True)
    ]
