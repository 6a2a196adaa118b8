"""`clipcite adapt`: upload labelled images and start a training job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, print_json, stderr, stdout
from clipcite.cli.references import find_model
from clipcite.cli.render.preflight import show_preflight
from clipcite.cli.render.progress import upload_bar, wait_for
from clipcite.datasets.detect import read

if TYPE_CHECKING:
    from clipcite.client.upload import Adaptable


def adapt(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="Folder of class folders, manifest (CSV, JSONL), export (Hugging Face imagefolder, Label "
            "Studio) or .zip.",
            exists=True,
        ),
    ],
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
            "--no-evaluation", help="Evaluate nothing, also with test images: no verdict, no report."
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

    The command uploads the images and starts a training job.
    """
    own: dict[str, Any] = {"backbone": backbone, "epochs": epochs, "alpha": alpha}
    own["evaluate"] = "none" if no_evaluation else None
    settings = {**_config(config), **{name: value for name, value in own.items() if value is not None}}
    console = stderr()
    with connected(url, key) as client:
        extends = extends and find_model(client, extends)
        upload: Adaptable = images
        if images.suffix.lower() != ".zip":
            upload = read(images, label_column=label_column)
            console.print(upload.summary(), markup=False, soft_wrap=True)
        if dry_run:
            with upload_bar() as on_upload:
                checked = client.preflight(
                    upload, extends=extends, config=settings, on_bad_image=on_bad_image, on_upload=on_upload
                )
            if as_json:
                print_json(checked.raw)
            else:
                show_preflight(stdout(), checked)
            raise typer.Exit(Exit.OK if checked.acceptable else Exit.FAILED)
        with upload_bar() as on_upload:
            job = client.adapt(
                upload,
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
