"""`clipcite adapt`: upload labelled images and start a training job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, print_json, stderr, stdout
from clipcite.cli.references import find_model, find_pile
from clipcite.cli.render.progress import upload_bar, wait_for
from clipcite.cli.render.tables import duration, print_table, table_of
from clipcite.datasets.detect import read

if TYPE_CHECKING:
    from clipcite.client.upload import Adaptable
    from clipcite.types.adapt import Estimate, Preflight

MAX_FINDINGS = 30


def adapt(
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGES",
            help="Folder of class folders, manifest (CSV, JSONL), export (Hugging Face imagefolder, Label "
            "Studio) or .zip.",
            exists=True,
        ),
    ] = None,
    pile: Annotated[
        str | None,
        typer.Option(
            help="Train on the labelled images of a pile: id, its last characters, or name. Those drawn at "
            "random are test images."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show progress until the job ends. Ctrl-C detaches.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the images; store and train nothing.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the job and its model.")] = None,
    extends: Annotated[
        str | None, typer.Option("--extends", help="Add these images to this model's and train again.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone (default: the service's).")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs (default: the backbone's recipe).")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="Strength: 0 pre-trained model, 1 fully trained.")
    ] = None,
    no_evaluation: Annotated[
        bool,
        typer.Option(
            "--no-evaluation", help="Skip the evaluation, even with test images: no verdict, no report."
        ),
    ] = False,
    config: Annotated[
        str, typer.Option(help="Other settings, such as seed, as a JSON object or the path of a JSON file.")
    ] = "{}",
    on_bad_image: Annotated[
        Literal["fail", "skip"],
        typer.Option(help="Reject an upload with unusable images, or skip them."),
    ] = "fail",
    label_column: Annotated[
        str | None, typer.Option(help="Column of a manifest that holds the class.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="URL to notify when the job has a model and when it ends.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Train a model on labelled images.

    The command uploads the images, or takes those of a pile, and starts a training job.
    """
    own: dict[str, Any] = {"backbone": backbone, "epochs": epochs, "alpha": alpha}
    own["evaluate"] = "none" if no_evaluation else None
    settings = {**_config(config), **{name: value for name, value in own.items() if value is not None}}
    if images is None and pile is None:
        raise typer.BadParameter("are needed, or --pile.", param_hint="IMAGES")
    console = stderr()
    with connected(url, key) as client:
        extends = extends and find_model(client, extends)
        pile = pile and find_pile(client, pile)
        upload: Adaptable | None = images
        if images is not None and images.suffix.lower() != ".zip":
            upload = read(images, label_column=label_column)
            console.print(upload.summary(), markup=False, soft_wrap=True)
        if dry_run:
            with upload_bar() as on_upload:
                checked = client.preflight(
                    upload,
                    pile=pile,
                    extends=extends,
                    config=settings,
                    on_bad_image=on_bad_image,
                    on_upload=on_upload,
                )
            if as_json:
                print_json(checked.raw)
            else:
                _show_preflight(stdout(), checked)
            raise typer.Exit(Exit.OK if checked.acceptable else Exit.FAILED)
        with upload_bar() as on_upload:
            job = client.adapt(
                upload,
                pile=pile,
                extends=extends,
                name=name,
                config=settings,
                on_bad_image=on_bad_image,
                webhook=webhook,
                on_upload=on_upload,
            )
        if wait:
            console.print(f"{escape(job.name or '')}  {job.id}".lstrip(), soft_wrap=True)
            wait_for(client, job.id, as_json=as_json)
        elif as_json:
            print_json(job.raw)
        else:
            stdout().print(job.id)
            console.print(f"To show progress: [bold]clipcite jobs wait {job.id}[/]", soft_wrap=True)


def _config(argument: str) -> dict[str, Any]:
    """Parse --config, a JSON object or the path of a JSON file."""
    try:
        is_json = argument.lstrip().startswith("{")
        config = json.loads(argument if is_json else Path(argument).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            "must be a JSON object or the path of a JSON file.", param_hint="--config"
        ) from error
    if not isinstance(config, dict):
        raise typer.BadParameter("must be a JSON object.", param_hint="--config")
    return config


def _show_preflight(console: Console, result: Preflight) -> None:
    """Print classes, findings and the estimate."""
    table = table_of("class", "images", "test images")
    for each in result.classes:
        table.add_row(escape(each.name), str(each.images), str(each.test_images or ""))
    print_table(console, table)
    for warning in result.warnings:
        console.print(f"[yellow]note[/]     {escape(warning.detail)}", soft_wrap=True)
    for finding in result.findings[:MAX_FINDINGS]:
        console.print(f"[yellow]finding[/]  {escape(finding.file)}: {escape(finding.detail)}", soft_wrap=True)
    if len(result.findings) > MAX_FINDINGS:
        rest = len(result.findings) - MAX_FINDINGS
        console.print(f"[dim]and {rest} more findings (all with --json)[/]", soft_wrap=True)
    console.print(f"usable   {result.good} of {result.images} images without findings")
    console.print(f"duration {_duration(result.estimate)}", soft_wrap=True)
    if result.estimate.memory_bytes:
        console.print(f"memory   {result.estimate.memory_bytes / 1e9:.1f} GB")
    if not result.acceptable:
        console.print(
            "[red]This upload would be rejected[/] because of unreadable images. Remove them, or skip them "
            "with --on-bad-image skip.",
            soft_wrap=True,
        )


def _duration(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return escape(estimate.basis) or "unknown"
    low, high = (duration(s) for s in (estimate.low_seconds or 0, estimate.high_seconds or estimate.seconds))
    return f"about {duration(estimate.seconds)} ({low} to {high}). {escape(estimate.basis)}"
