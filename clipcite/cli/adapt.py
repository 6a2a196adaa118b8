"""`clipcite adapt`: images in, a job out."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, note, out, print_json
from clipcite.cli.render.preflight import show_preflight
from clipcite.cli.render.progress import upload_bar, wait_for
from clipcite.client._sync.client import Client
from clipcite.client.upload import ARCHIVES, Adaptable
from clipcite.datasets.detect import read


class OnBadImage(StrEnum):
    FAIL = "fail"
    SKIP = "skip"


def adapt(
    images: Annotated[
        Path,
        typer.Argument(
            help="A folder of class folders, a manifest (CSV, JSONL), an export (Hugging Face imagefolder, "
            "Label Studio), a .zip, or a .tar, which is repacked as one.",
            exists=True,
        ),
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch it until it has ended. Ctrl-C detaches.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look at the images; nothing is stored.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="A name for the job and its model.")] = None,
    extends: Annotated[
        str | None, typer.Option("--extends", help="A model: all that it was made from is taken as well.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Of those that the service offers.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the backbone's recipe.")] = None,
    alpha: Annotated[float | None, typer.Option(min=0, max=1, help="0 pre-trained, 1 fine-tuned.")] = None,
    holdout: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Share of each class kept back to measure on.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For the same result again.")] = None,
    config: Annotated[
        str, typer.Option(help="Any other settings, as a JSON object or a file of one.")
    ] = "{}",
    on_bad_image: Annotated[
        OnBadImage, typer.Option(help="Refuse the upload, or go on without them.")
    ] = OnBadImage.FAIL,
    label_column: Annotated[str | None, typer.Option(help="Of a table, where it isn't clear.")] = None,
    webhook: Annotated[str | None, typer.Option(help="A URL that is told of the end.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same command with the same key makes no second job.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload labelled images and start an adaptation."""
    own = {"backbone": backbone, "epochs": epochs, "alpha": alpha, "holdout": holdout, "seed": seed}
    settings = {**_config(config), **{name: value for name, value in own.items() if value is not None}}
    console = note()
    with connected(url, key) as client:
        given: Adaptable = images
        if not images.name.lower().endswith(ARCHIVES):
            given = read(images, label_column=label_column)
            console.print(given.found(), markup=False, soft_wrap=True)
        if dry_run:
            _look(client, given, extends, settings, on_bad_image, as_json=as_json)
            return
        with upload_bar(console) as sent:
            job = client.adapt(
                given,
                extends=extends,
                name=name,
                config=settings,
                on_bad_image=on_bad_image.value,
                webhook=webhook,
                idempotency_key=idempotency_key,
                on_upload=sent,
            )
        if wait:
            console.print(f"{job.id}  {escape(job.name or '')}".rstrip(), soft_wrap=True)
            wait_for(client, job.id, as_json=as_json)
        elif as_json:
            print_json(job.raw)
        else:
            out().print(job.id)
            console.print(f"Watch it with [bold]clipcite jobs wait {job.id}[/]", soft_wrap=True)


def _look(
    client: Client,
    given: Adaptable,
    extends: str | None,
    settings: dict[str, Any],
    on_bad_image: OnBadImage,
    *,
    as_json: bool,
) -> None:
    """Say what is wrong with the images; status 1 if they would be refused."""
    with upload_bar(note()) as sent:
        found = client.preflight(
            given, extends=extends, config=settings, on_bad_image=on_bad_image.value, on_upload=sent
        )
    if as_json:
        print_json(found.raw)
    else:
        show_preflight(out(), found)
    if not found.acceptable:
        raise typer.Exit(Exit.FAILED)


def _config(given: str) -> dict[str, Any]:
    text = (
        given if given.lstrip().startswith("{") else Path(given).read_text() if Path(given).is_file() else ""
    )
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter("must be a JSON object, or a file of one.", param_hint="--config") from error
    if not isinstance(found, dict):
        raise typer.BadParameter("must be a JSON object.", param_hint="--config")
    return found
