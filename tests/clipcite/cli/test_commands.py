"""The commands on the running service, as scripts use them: output, JSON, exit codes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clipcite import Client, Job
from clipcite.__main__ import app
from core.clip.models.backbone import Backbone
from core.store.accounts import api_keys
from tests.api.service import listening
from tests.api.service import service as in_process
from tests.clipcite.painted import paint
from tests.service.running import Service


@pytest.mark.smoke
def test_adapt_wait_classify(call: Any, folder: Path) -> None:
    done = call(
        "adapt", folder, "--wait", "--epochs", 60, "--name", "[colours]", "--config", '{"batch_size": 8}'
    )
    assert "found: class folders, 3 classes, 14 images (6 test images)" in done.stderr
    assert re.search(r"^job_\w+  succeeded$", done.stderr, re.MULTILINE)
    for shown in (
        "Of the new classes alone: ",
        "verdict",
        "clipcite classify IMAGE --model '[colours]' --classes green,red",
    ):
        assert shown in done.stdout
    assert "\x1b[" not in done.output  # Not a terminal.
    job = json.loads(call("jobs", "list", "-n", 1, "--json").stdout)[0]
    assert (job["name"], job["config"]["batch_size"]) == ("[colours]", 8)
    model = job["model_id"]
    assert model in done.stdout

    done = call(
        "classify",
        folder / "test/red",
        folder / "test/b*/0.png",
        "-m",
        model,
        "-c",
        "red, green",
        "-c",
        "blue=a sea",
    )
    names = [folder / name for name in ("test/red/0.png", "test/red/1.png", "test/blue/0.png")]
    assert re.findall(r"^\S+\.png", done.stdout, re.MULTILINE) == [*map(str, names)]
    assert len(done.stdout.splitlines()) == 6  # header, three images, an empty line, the tally
    assert re.fullmatch(r"3 images: (red|green|blue) \d.*", done.stdout.splitlines()[-1])
    assert "similarity" not in done.stdout
    table = folder / "predictions.csv"
    done = call("classify", folder / "test", "-m", model, "-k", 2, "--csv", table)
    assert done.stdout.splitlines()[-1].startswith("6 images: ")
    assert table.read_text().startswith("image,class,probability\n")
    assert len(table.read_text().splitlines()) == 13
    answer = json.loads(
        call("classify", folder / "test/red/0.png", "-c", "red,blue", "-k", 1, "--json").stdout
    )
    assert answer["model"] == "stock"
    assert len(answer["results"][0]["predictions"]) == 1
    assert answer["results"][0]["file"] == str(folder / "test/red/0.png")
    (folder / "bad.png").write_bytes(b"no image")
    done = call("classify", folder / "bad.png", folder / "test/red/0.png", "-c", "red,blue", status=1)
    assert "bad.png" in done.stdout

    for shown in ("[colours]", model, "succeeded"):
        assert shown in call("jobs", "show", job["id"]).stdout
        assert shown in call("jobs", "show", job["id"][-6:]).stdout
    listed = call("jobs", "list", "--status", "succeeded").stdout.splitlines()
    assert re.match(rf"\[colours\] +succeeded .+ {model[-6:]} +{job['id'][-6:]}", listed[1])
    for command in (["models", "show"], ["report"], ["classify", folder / "test/red/0.png", "-m"]):
        call(*command, model[-6:])
    call("report", job["id"][-6:])
    said = call("jobs", "show", "nosuchid", status=2).stderr
    assert "No job has the name 'nosuchid', or an id that ends in it. Run `clipcite jobs list`." in said
    assert json.loads(call("jobs", "wait", job["id"], "--json").stdout) == json.loads(
        call("jobs", "show", job["id"], "--json").stdout
    )
    assert "verdict" in call("models", "show", model).stdout
    assert json.loads(call("models", "show", model, "--json").stdout)["id"] == model
    listed = call("models", "list").stdout.splitlines()
    assert re.match(
        rf"\[colours\]@1 +(better|probably better|no difference|probably worse|worse) .+ {model[-6:]}",
        listed[1],
    )
    assert call("models", "delete", model[-6:], "--yes").stdout == f"{model} deleted.\n"
    assert "deleted" in call("jobs", "delete", job["id"]).stdout
    assert model not in [each["id"] for each in json.loads(call("models", "list", "--json").stdout)]


def test_offsets_sets_and_rejections(call: Any, folder: Path, taught: Job) -> None:
    """Without --classes, the model's classes are used."""
    image = folder / "test" / "red" / "0.png"
    done = call("classify", image, "--model", taught.model_id)
    assert re.search(r"image +class +probability +\n\S+ +(red|green) +[\d.]+% +\n$", done.stdout)
    for reference in (taught.id, taught.model_id):
        answer = json.loads(call("classify", image, "-m", reference, "--json").stdout)
        assert {each["class_name"] for each in answer["results"][0]["predictions"]} == {"red", "green"}

    blue = folder / "test" / "blue" / "0.png"
    said = call("classify", image, blue, "-m", taught.model_id, "--something-else").stdout
    assert re.search(r"blue/0\.png +something else", said)
    refused = call("classify", image, "-c", "red,blue", "--something-else", status=2).stderr
    assert "name a trained model with --model, or leave --something-else out" in " ".join(refused.split())


def test_a_job_that_does_not_succeed(call: Any, folder: Path) -> None:
    done = call("adapt", folder, "--epochs", 1000, "--config", '{"batch_size": 4}')
    job_id = done.stdout.strip()  # The id is the only output, so that a script can capture it.
    assert f"clipcite jobs wait {job_id}" in done.stderr
    assert "is still" in call("jobs", "wait", job_id, "--timeout", 0.2, status=1).stderr
    assert job_id in call("jobs", "cancel", job_id).stdout
    assert "cancelled" in call("jobs", "wait", job_id, status=1).stdout
    assert json.loads(call("jobs", "wait", job_id, "--json", status=1).stdout)["status"] == "cancelled"


MISTAKES = [
    (["clasify", "{images}"], 2, "No such command 'clasify'. Did you mean 'classify'?"),
    (["delete", "things"], 2, "Did you mean 'jobs delete' or 'models delete' or 'piles delete'?"),
    (["train", "{images}"], 2, "No such command 'train'. Did you mean 'adapt'?"),
    (["predict", "{images}"], 2, "No such command 'predict'. Did you mean 'classify'?"),
    (["label", "{images}"], 2, "No such command 'label'. Did you mean 'sort'?"),
    (["adapt", "{images}", "--epoch", "5"], 2, "No such option: --epoch (Possible options: --epochs)"),
    (
        ["adapt", "{images}", "--config", '{{"epoch": 5}}'],
        5,
        "epoch: Unknown field `epoch`. Did you mean `epochs`?",
    ),
    (["adapt", "{images}", "--config", "["], 2, "must be a JSON object or the path of a JSON file."),
    (
        ["adapt", "{images}/test/red"],
        2,
        "contains images without labels. To train, put them into one folder per",
    ),
    (["adapt", "{images}/test/red"], 2, "To group and sort them: clipcite sort {images}/test/red"),
    (["adapt", "gone"], 2, "'gone' does not exist."),
    (["classify", "{images}/test"], 2, "Invalid value for --classes: is required with the stock model."),
    (["classify", "gone/*.png", "-c", "a"], 2, "no image at gone/*.png."),
    (["classify", "", "-c", "a"], 2, "one of the names is empty."),
    (
        ["classify", "{images}/test", "-m", "wardrobe@prod"],
        5,
        "'wardrobe' has no alias 'prod'. `clipcite models promote wardrobe@prod wardrobe`",
    ),
    (["classify", "{images}/test", "-m", "wardrob"], 5, "No model 'wardrob'. Did you mean 'wardrobe'?"),
    (["models", "show", "mdl_x"], 5, "There is no model 'mdl_x'. `clipcite models list` lists your models."),
    (["jobs", "show", "zzzzzz"], 2, "No job has the name 'zzzzzz', or an id that ends in it."),
    (["models", "rename", "wardrobe", ""], 2, "Invalid value for NAME: must not be empty."),
    (["models", "promote", "wardrobe", "mdl_x"], 2, "must have the form name@alias, such as shoes@prod."),
    (["jobs", "list", "--url", "nowhere"], 2, "'nowhere' is not a valid address"),
    (
        ["jobs", "list", "--url", "http://127.0.0.1:9"],
        3,
        "Start it with `clipcite serve`, or set CLIPCITE_URL.",
    ),
]


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_answered_with_its_remedy(
    call: Any, folder: Path, wardrobe: str, arguments: list[str], status: int, words: str
) -> None:
    """The message is on standard error, without a traceback, a route or a phrase of pydantic."""
    done = call(*(argument.format(images=folder) for argument in arguments), status=status)
    said = re.sub(r"[│╭╮╰╯─\s]+", " ", done.stderr)
    assert words.format(images=folder) in said
    assert done.stdout == ""
    assert not re.search(r"Traceback|(GET|POST|DELETE|PUT|PATCH) /|Extra inputs", said)


@pytest.fixture(scope="module")
def wardrobe(trained: Job, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the name of a model of the tests of this module."""
    with Client(service.url) as client:
        path = client.models.export(trained.model_id or "", tmp_path_factory.mktemp("wardrobe") / "model.zip")
        model = client.models.import_model(path, name="wardrobe")
        yield "wardrobe"
        model.delete()


def test_an_empty_id_selects_no_job(call: Any, folder: Path) -> None:
    """An empty id comes from a shell variable that was never set."""
    job_id = call("adapt", folder, "--epochs", 1).stdout.strip()
    call("jobs", "cancel", job_id)
    for command in (["show"], ["wait"], ["cancel"], ["delete"]):
        assert "must not be empty" in call("jobs", *command, "", status=2).stderr
    for arguments in (["models", "show", ""], ["models", "delete", ""], ["report", ""], ["report", "."]):
        assert "is not a valid id or name" in call(*arguments, status=2).stderr
    assert "is not a valid id" in call("export", "", "-o", folder / "a.zip", status=2).stderr
    assert "is not a valid id" in call("adapt", folder, "--extends", "", status=2).stderr
    assert call("jobs", "delete", job_id[-8:]).stdout == f"{job_id} and its images deleted.\n"


def test_a_job_is_named_by_its_name(call: Any, folder: Path) -> None:
    made = [call("adapt", folder, "--epochs", 1, "--name", "dusk").stdout.strip()]
    assert json.loads(call("jobs", "cancel", "dusk", "--json").stdout)["id"] == made[0]
    made.append(call("adapt", folder, "--epochs", 1, "--name", "dusk").stdout.strip())
    said = call("jobs", "cancel", "dusk", status=2).stderr
    assert "2 jobs have the name 'dusk', or an id that ends in it. Use more of an id" in said
    call("jobs", "cancel", made[1])
    for id in made:
        call("jobs", "wait", id, status=1)
        call("jobs", "delete", id)


@pytest.mark.parametrize("argument", ["new/**.jpg", "x" * 300, "x" * 300 + "/*.jpg"])
def test_an_impossible_pattern_matches_no_image(argument: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["classify", f"{tmp_path}/{argument}", "-c", "a"])
    assert done.exit_code == 2
    assert "no image at" in done.stderr


@pytest.mark.parametrize(
    "command", [["classify", "-c", "a", "--csv"], ["sort", "--csv"], ["export", "-o"], ["report", "--html"]]
)
def test_an_image_is_not_overwritten(command: list[str], tmp_path: Path) -> None:
    """The shell turns `--csv *.jpg` into an option with the first photo, and further photos."""
    photo = tmp_path / "0.JPG"
    photo.write_bytes(b"photo")
    given = [*command, str(photo), str(tmp_path), "--url", "http://127.0.0.1:9"]
    done = CliRunner().invoke(app, given, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "0.JPG is an image, which would be overwritten. Give another name." in done.stderr
    assert photo.read_bytes() == b"photo"


def test_options_of_adapt_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes('{"größe": 1}'.encode("latin-1"))
    for option in (
        f"--config={tmp_path / 'latin.json'}",
        f"--config={tmp_path / 'gone.json'}",
        "--config=" + "x" * 300,
    ):
        done = CliRunner().invoke(app, ["adapt", str(tmp_path), option])
        assert done.exit_code == 2, done.exception
        assert option.partition("=")[0] in done.stderr


def test_unusable_files_do_not_end_the_command(call: Any, tmp_path: Path) -> None:
    for name in ("red", "green"):
        paint(tmp_path, name, 2)
        (tmp_path / name / "phone.heic").write_bytes(b"damaged")
    (tmp_path / "red" / "0.png").rename(tmp_path / "red" / os.fsdecode(b"K\xe4fer.png"))
    (tmp_path / "green" / os.fsdecode(b"Kr\xf6te.png")).write_bytes(b"no image")
    checked = call("adapt", tmp_path, "--dry-run", status=1).stdout
    assert f"{tmp_path}/red/phone.heic" in checked
    assert f"{tmp_path}/green/Kr?te.png" in checked
    job_id = call("adapt", tmp_path, "--on-bad-image", "skip", "--epochs", 1).stdout.strip()
    call("jobs", "cancel", job_id)
    done = call("classify", tmp_path, "-c", "red,green", status=1)
    assert done.stdout.count("phone.heic") == 2


@pytest.mark.slow
def test_doctor(service: Service, environment: dict[str, str], tmp_path: Path) -> None:
    """Doctor on a healthy machine and on a faulty one."""

    def doctor(*options: str, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
        variables = (
            {k: v for k, v in os.environ.items() if not k.startswith("CLIPCITE_")} | environment | settings
        )
        done = subprocess.run(
            [sys.executable, "-m", "clipcite", "doctor", "--json", *options],
            env=variables,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, {one["name"]: one for one in json.loads(done.stdout)}

    status, found = doctor("--url", service.url, "--data", str(tmp_path / "data"))
    assert status == 0, found
    names = [
        "python",
        "device",
        "data folder",
        "database",
        "broker",
        "storage",
        "backbone",
        "service",
    ]
    assert list(found) == [*names, "API key"]
    assert {one["state"] for name, one in found.items() if name != "data folder"} == {"ok"}
    (tmp_path / "file").write_text("")
    status, found = doctor(
        "--data",
        str(tmp_path / "file"),
        "--url",
        "http://127.0.0.1:9",
        CLIPCITE_DEVICE="cuda",
        CLIPCITE_REDIS_URL="redis://127.0.0.1:9/0",
        CLIPCITE_BACKBONE=f"local-dir:{tmp_path / 'gone'}",
        CLIPCITE_DATABASE_URL="mysql://x",
        CUDA_VISIBLE_DEVICES="",
    )
    assert status == 1
    assert {name for name, one in found.items() if one["state"] == "problem"} == {
        "device",
        "data folder",
        "database",
        "broker",
        "backbone",
    }
    assert found["service"]["state"] == "warning"
    assert "clipcite serve" in found["service"]["detail"]


def test_a_key_is_needed_where_there_are_keys(
    tmp_path: Path, migrated: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "k" * 32
    data = tmp_path / "data"
    data.mkdir()
    (data / "clipcite.db").write_bytes(migrated.read_bytes())
    with in_process(data, backbone.name, admin_key=key) as made, listening(made.app) as port:
        monkeypatch.setenv("CLIPCITE_URL", f"http://127.0.0.1:{port}")
        done = CliRunner().invoke(app, ["jobs", "list"])
        assert done.exit_code == 4
        assert "--key or CLIPCITE_API_KEY" in done.stderr
        assert CliRunner().invoke(app, ["jobs", "list", "--key", key]).exit_code == 0
        monkeypatch.setenv("CLIPCITE_API_KEY", key)
        assert CliRunner().invoke(app, ["models", "list", "--json"]).stdout == "[]\n"
        with made.database.write() as session:
            weak = api_keys.create(session, owner="default", scopes=["classify"]).key
        done = CliRunner().invoke(app, ["classify", str(data / "*.db"), "-m", "trsah", "--key", weak])
        assert "No model 'trsah'. Run `clipcite models list`." in done.stderr
        with Client() as client:
            assert list(client.models.list()) == []
