"""`clipcite mcp`: tools for assistants that speak the Model Context Protocol (MCP), over standard input."""

import os
import shlex
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcite.cli.connection import Exit, Key, Url, connected, give_up
from clipcite.datasets.detect import read
from clipcite.errors import APIStatusError, ClipCiteError
from clipcite.sorting.files import carry_out, tidy
from clipcite.sorting.folder_pile import add, find_pile, read_files, sort
from clipcite.sorting.log import locked, logs_of, open_log
from clipcite.sorting.plan import find_images, plan, without_sorted

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from clipcite import Client, Dataset

INSTRUCTIONS = """Classify images and train image classifiers with clipcite. Paths are relative to {root}. A
model is a reference such as shoes@prod; `stock` is the pre-trained one and needs class_names. A training
takes minutes: `adapt` returns a job at once, `job_status` its state, and `report` how good the model is."""


def command(
    root: Annotated[
        Path, typer.Option(help="Folder of the files that the tools may read.", exists=True, file_okay=False)
    ] = Path(),
    url: Url = None,
    key: Key = None,
) -> None:
    """Let an assistant classify, train and sort.

    This is a server of the Model Context Protocol. Assistants start it themselves. Its tools never delete or
    overwrite a file.
    """
    with connected(url, key) as client:
        try:
            server = make_server(client, root)
        except ModuleNotFoundError:
            give_up("The package mcp is missing. Run: pip install 'clipcite[mcp]'", Exit.USAGE)
        server.run("stdio")


def make_server(client: "Client", root: Path) -> "MCPServer":
    """Return the server of the tools. They read only files below `root`. Each call runs in a thread."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    root = root.resolve()
    server = MCPServer("clipcite", instructions=INSTRUCTIONS.format(root=root), log_level="WARNING")

    def tool(function: Callable[..., Any]) -> None:
        @wraps(function)
        def explained(*args: Any, **given: Any) -> Any:
            try:
                return function(*args, **given)
            except (ClipCiteError, OSError, ValueError) as error:  # MCP hides the text of other errors
                text = error.text("commands") if isinstance(error, APIStatusError) else str(error)
                raise ToolError(text) from error

        server.tool()(explained)

    def inside(path: str | Path) -> Path:
        found = (root / path).resolve()
        if not found.is_relative_to(root):
            raise ValueError(f"{path} is outside {root}. Start `clipcite mcp` with another --root.")
        return found

    def dataset(folder: str) -> "Dataset":
        start = inside(folder)
        seen = {start}
        for parent, folders, files in os.walk(start, followlinks=True):  # check all before any is opened
            below = {name: inside(Path(parent, name)) for name in (*folders, *files) if name[0] != "."}
            folders[:] = [name for name in folders if name in below and below[name] not in seen]
            seen.update(below.values())
        found = read(start)
        for item in found.images:
            if item.image.path is not None:
                inside(item.image.path)
        return found

    @tool
    def classify_images(
        paths: list[str], class_names: list[str] | None = None, model: str = "stock", top_k: int = 3
    ) -> list[dict[str, Any]]:
        """Rank class names for images, by default the classes that the model was trained on."""
        response = client.classify([inside(path) for path in paths], class_names, model=model, top_k=top_k)
        return [
            {"file": path, "error": result.error.detail}
            if result.error is not None
            else {"file": path, "probabilities": {p.class_name: p.probability for p in result.predictions}}
            for path, result in zip(paths, response.results, strict=True)
        ]

    @tool
    def list_models() -> list[dict[str, Any]]:
        """List the trained models, newest first."""
        return [
            {"model": f"{m.name}@{m.version}" if m.name else m.id, "id": m.id, "classes": m.trained_classes}
            for m in client.models.list()
        ]

    @tool
    def check_images(folder: str) -> dict[str, Any]:
        """Check a folder of labelled images, one sub-folder per class, before a training."""
        found = client.preflight(dataset(folder))
        return {key: found.raw[key] for key in ("acceptable", "images", "good", "findings", "warnings")}

    @tool
    def adapt(folder: str, name: str) -> dict[str, str]:
        """Start to train a model on a folder of labelled images. Return the id of the job at once."""
        job = client.adapt(dataset(folder), name=name)
        return {"job": job.id, "status": job.status}

    @tool
    def job_status(id: str) -> dict[str, Any]:
        """Return the state of a job, and the id of its model when there is one."""
        job = client.jobs.get(id)
        return {key: job.raw[key] for key in ("status", "progress", "model_id", "warnings", "error")}

    @tool
    def report(id: str) -> dict[str, Any]:
        """Return how good the model of a job is, and what would improve it."""
        found = client.jobs.report(id)
        shown = ("verdict", "sentences", "recommendations", "label_issues", "label_issues_note")
        return {key: found.raw.get(key) for key in shown}

    @tool
    def sort_folder(folder: str, model: str) -> dict[str, Any]:
        """Copy each image of a folder into `FOLDER-sorted/CLASS/`, or into `something else/`.

        `something else/` gets images that belong to none of the classes. The command in `undo` undoes it.
        """
        source = inside(folder)
        into = inside(source.with_name(f"{source.name}-sorted"))
        used = client.models.get(model)
        with locked(source, into):
            closed: list[Path] = []
            found = [image for image in find_images(source, into, closed) if inside(image.path)]
            for earlier_log in into.glob("*.jsonl"):
                inside(earlier_log)
            files = read_files(found, source, lambda number: None)
            earlier = [str(log.subject.get("pile")) for log in logs_of(into, source)]
            names = used.trained_classes
            pile = find_pile(client, files.known, earlier, model=used.id, names=names, keeps_images=False)
            if pile is None:
                pile = client.piles.create(name=source.name, model=used.id, keeps_images=False)
            elif pile.model != used.id:
                pile.update(model=used.id, class_names=None)
            log, others = open_log(into, {"folder": str(source), "pile": pile.id})
            tidy(log)
            images = without_sorted(found, log, others)
            add(pile, files)
            result = sort(pile, files)
            names = [each.name for each in result.class_names]
            places = plan(images, files.answers(result), names, into, unsure=0, how="copy")
            waiting = [place for place in places if place.target and inside(place.target) and not place.done]
            left = carry_out(log, waiting, "copy", lambda number: None)
            left += [(str(path), "The folder can't be read.") for path in closed]
        counts = dict(Counter(place.class_name or "unreadable" for place in places))
        undo = f"clipcite sort --undo {shlex.quote(str(log.path))}"
        return {"folder": str(into), "images": counts, "failed": left, "undo": undo}

    return server
