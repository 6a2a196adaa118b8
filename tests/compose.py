"""`python -m tests.compose [FOLDER]`: the service in containers, run by a Docker engine of its own. Slow.

The folder (default: `clipcite-compose` in the temporary folder) keeps images and wheels for the next run. It
prints times and sizes, and ends at the first thing that is lost.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alembic.script import ScriptDirectory
from PIL import Image

from clipcite import APIStatusError, Client, Job
from core import sample
from core.store.db.migrate import alembic_config
from tests.deploy import engine as own
from tests.deploy.engine import OURS, Engine, Failed, docker, run
from tests.deploy.files import ROOT
from tests.disk import fill
from tests.service.running import wait_for

NAME, PORT = "clipcite-test", 8100
MAX_IMAGE_BYTES = 2_200_000_000
NAMES = ["washer", "gear", "screw"]
PHOTOS = [
    next(data for path, data in sample.images().items() if path.startswith(f"test/{name}/")) for name in NAMES
]  # `screw` is a new class
LONG = {"epochs": 30}
MIGRATION = """import sqlalchemy as sa
from alembic import op
revision = "next"
down_revision = "{head}"
def upgrade(): op.create_table("next_version", sa.Column("id", sa.Integer, primary_key=True))
"""


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[Callable[[str], None]]:
    """Print how long a step took, and what it notes."""
    started, notes = time.monotonic(), list[str]()
    say(f"{name:<58}", end="")
    yield notes.append
    say(f"{time.monotonic() - started:7.1f} s   {'; '.join(notes)}")


def is_ready(client: Client) -> bool:
    with suppress(Exception):
        return client.ready().ready
    return False


class Project:
    """The compose file under another name and port, and the jobs that were started in it."""

    def __init__(self, folder: Path, name: str, override: str, **settings: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
        shutil.copy(ROOT / "docker-compose.yml", folder)
        (folder / "docker-compose.override.yml").write_text(override)
        run("sh", folder / "deploy/secrets.sh")
        self.folder, self.name, self.settings = folder, name, settings
        self.key = (folder / "deploy/secrets/clipcite_admin_key").read_text().strip()
        self.client = Client(f"http://127.0.0.1:{PORT}", self.key)
        self.jobs: list[Job] = []
        self.answers: dict[str, list[float]] = {}

    def compose(self, *command: str, **settings: str) -> str:
        lines = ({"API_ADDRESS": f"127.0.0.1:{PORT}"} | self.settings | settings).items()
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines))
        return docker("compose", "--ansi=never", "--project-name", self.name, *command, cwd=self.folder)

    def up(self, **settings: str) -> None:
        """Start as the page says. Raise Failed if that does not mean *ready*."""
        self.compose("up", "--detach", "--wait", **settings)
        if not self.client.ready().ready:
            raise Failed("`up --wait` has ended, but the service is not ready.")

    def kill(self, service: str) -> None:
        docker("kill", *self.compose("ps", "--quiet", service).split())

    def start(self, images: Path, **config: int) -> Job:
        job = self.client.adapt(images, config=config, name=f"job-{len(self.jobs)}")
        self.jobs.append(job)
        return job

    def train(self, images: Path) -> None:
        """Start a job. Return when its training has begun."""
        job = self.start(images, **LONG)
        wait_for(lambda: (job.refresh().progress is not None) and job.progress.epoch > 0)

    def check(self, client: Client | None = None) -> str:
        """Raise Failed unless each job has succeeded and each model still predicts the same."""
        client = client or self.client
        wait_for(lambda: is_ready(client))
        if {job.id for job in client.jobs.list()} != {job.id for job in self.jobs}:
            raise Failed("These are not the jobs that were started.")
        for job in self.jobs:
            ended = client.jobs.wait(job.id, timeout=1800)
            if ended.status != "succeeded":
                raise Failed(f"{job.name}: {ended.status}, {ended.error}")
            results = client.classify(PHOTOS, NAMES, model=job.id)
            answer = [
                p.probability for r in results for p in sorted(r.predictions, key=lambda p: p.class_name)
            ]
            before = self.answers.setdefault(job.id, answer)
            if max(abs(x - y) for x, y in zip(answer, before, strict=True)) > 1e-3:
                raise Failed(f"{job.name} answers {answer} instead of {before}.")
        return f"{len(self.jobs)} jobs and models"


def one_container() -> None:
    name = f"{NAME}-one"
    options = ("--detach", "--name", name, "-p", f"127.0.0.1:{PORT}:{PORT}", "-v", f"{name}:/data")

    def link() -> list[tuple[str, str]]:
        return re.findall(r"(http://127\S+)/#token=(\S+)", docker("logs", name))

    with step("docker run … serve: from nothing to its address"):
        docker("run", *options, OURS, "serve", "--port", str(PORT))
        wait_for(link)
    with Client(*link()[0]) as client:
        with step("   the first photo"):
            assert client.classify(PHOTOS[2], NAMES)[0].class_name == "screw"
        with step("   a photo of 40 megapixels, and 32 photos of 12") as note:
            client.classify([Image.new("RGB", (7_000, 5_700))], NAMES)
            client.classify([Image.new("RGB", (4_000, 3_000), (i, i, i)) for i in range(32)], NAMES)
            note(docker("stats", "--no-stream", "--format={{.MemUsage}}", name).partition(" / ")[0])
        with step("   docker stop"):
            docker("stop", "--time", "30", name)
        with step("   docker start, until the same token is accepted"):
            docker("start", name)
            wait_for(lambda: is_ready(client))
            assert client.classify(PHOTOS[2], NAMES)[0].class_name == "screw"
    docker("rm", "--force", "--volumes", name)
    docker("volume", "rm", name)


def session(project: Project, images: Path) -> None:
    with step("docker compose up --detach --wait: first start") as note:
        project.up()
        states = [json.loads(line) for line in project.compose("ps", "--format", "json").splitlines()]
        assert {state["Health"] for state in states} == {"healthy"}, states
        note(f"healthy: {', '.join(sorted(state['Service'] for state in states))}")
    with step("   the first job; trained and new classes in one request") as note:
        project.start(images)
        note(project.check())
    with step("   clipcite keys create --owner team-a"):
        said = project.compose("exec", "api", "clipcite", "keys", "create", "--owner", "team-a")
        with Client(project.client.base_url, re.findall(r"cc_\S+", said)[0]) as team:
            assert project.jobs[0].model_id not in [model.id for model in team.models.list()]
    with step("   docker compose restart worker"):
        project.compose("restart", "worker")
        project.up()
    usage = docker("stats", "--no-stream", "--format={{.Name}} {{.MemUsage}}").splitlines()
    say("   memory: " + ", ".join(line.partition(" / ")[0].removeprefix(f"{NAME}-") for line in usage))


def faults(project: Project, engine: Engine, disk: Path, images: Path) -> None:
    """Kill, cut and fill in mid-job."""
    for service in ("worker", "dispatcher", "api", "redis", "postgres"):
        with step(f"docker kill {service} in mid-job, then up --wait") as note:
            project.train(images)
            project.kill(service)
            project.up()
            note(project.check())
    with step("all processes die in mid-job, and the engine restarts them") as note:
        project.train(images)
        for container in project.compose("ps", "--quiet").split():
            os.kill(int(docker("inspect", "--format={{.State.Pid}}", container)), signal.SIGKILL)
        note(project.check())
    with step("the backend network is cut for 30 s in mid-job") as note:
        project.train(images)
        bridge = f"br-{docker('network', 'inspect', '--format={{.Id}}', f'{project.name}_backend')[:12]}"
        run("ip", "link", "set", bridge, "down")
        time.sleep(30)
        run("ip", "link", "set", bridge, "up")
        note(project.check())
    with step("the volume is full for 30 s in mid-job") as note:
        project.train(images)
        ballast = fill(disk)
        try:
            project.client.adapt(images)
        except APIStatusError as error:
            note(f"{error.status} {error.code}")
        else:
            raise Failed("A job was accepted on a full disk.")
        time.sleep(30)
        ballast.unlink()
        note(project.check())
    with step("the engine restarts in mid-job") as note:
        project.train(images)
        engine.stop()
        engine.start()
        note(project.check())


def scaled(project: Project, images: Path) -> None:
    with step("CPU_WORKERS=2, CPU_APIS=2: two jobs at a time") as note:
        project.up(CPU_WORKERS="2", CPU_APIS="2", API_ADDRESS=f"127.0.0.1:{PORT}-{PORT + 1}")
        jobs = [project.start(images, **LONG) for _ in range(2)]
        wait_for(lambda: {job.refresh().status for job in jobs} == {"running"})
        with Client(f"http://127.0.0.1:{PORT + 1}", project.key) as second:
            note(project.check(second))
        note(project.check())
    with step("CPU_WORKERS=0: a job waits for the next worker") as note:
        project.up(CPU_WORKERS="0")
        job = project.start(images)
        time.sleep(5)
        assert job.refresh().status == "queued"
        project.up()
        note(project.check())


def moved(project: Project, box: Path) -> None:
    backup, outside = box / "backup", box / "outside"
    for folder in (backup, outside):
        shutil.rmtree(folder, ignore_errors=True)
    backup.mkdir(mode=0o700)
    os.chown(backup, 10001, 10001)
    with step("backup inside") as note:
        once = ("run", "--rm", "--no-deps", f"--volume={backup}:/backup", "api")
        project.compose(*once, "backup", "/backup")
        note(f"{sum(f.stat().st_size for f in backup.rglob('*') if f.is_file()) / 1e6:.0f} MB")
    with step("   restored into a service outside") as note:
        command = [sys.executable, "-m", "clipcite"]
        run(*command, "restore", str(backup), "--data", str(outside), cwd=ROOT)
        serve = [*command, "serve", "--port", str(PORT + 2), "--data", str(outside)]
        ours = {**os.environ, "CLIPCITE_ADMIN_KEY": project.key, "CLIPCITE_CACHE": str(box / "cache")}
        process = subprocess.Popen(serve, cwd=ROOT, env=ours, stderr=subprocess.DEVNULL)
        try:
            with Client(f"http://127.0.0.1:{PORT + 2}", project.key) as client:
                note(project.check(client))
        finally:
            process.terminate()
            process.wait(60)


def upgraded(project: Project) -> None:
    """A version with one more migration runs on the volumes; then the first one refuses the tables."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    with step("a second version over the first one's volumes") as note:
        docker("tag", OURS, f"{NAME}-first")
        file = project.folder / "next.py"
        file.write_text(MIGRATION.format(head=head))
        (project.folder / "Dockerfile").write_text(
            f"FROM {NAME}-first\nUSER root\nCOPY next.py /\n"
            "RUN mv /next.py $(clipcite server-path)/migrations/versions/\nUSER 10001:10001\n"
        )
        docker("build", "--quiet", "--tag", OURS, project.folder)
        docker("tag", OURS, f"{NAME}-second")
        project.compose("stop", "api", "dispatcher", "worker")
        project.up()
        note(project.check())
    with step("   the first version refuses the newer tables") as note:
        docker("tag", f"{NAME}-first", OURS)
        with suppress(Failed):
            project.up()
            raise SystemExit("The first version started on newer tables.")
        note(project.compose("logs", "--no-log-prefix", "migrate").strip().splitlines()[-1][:70])
    with step("   and the second one goes on") as note:
        docker("tag", f"{NAME}-second", OURS)
        project.up()
        note(project.check())
        docker("tag", f"{NAME}-first", OURS)


def with_s3(box: Path, images: Path) -> None:
    docker("build", "--quiet", "--tag", "clipcite-test-s3", "-", text=own.S3)
    settings = {"COMPOSE_PROFILES": "s3", "CLIPCITE_BLOB_URL": "s3://clipcite/blobs"}
    project = Project(box / "s3", f"{NAME}-s3", own.S3_SERVICE, **settings)
    try:
        with step("profile s3, by a stand-in: up and a job") as note:
            project.up()
            project.start(images)
            note(project.check())
        with step("   docker kill s3 in mid-job, then up --wait") as note:
            project.train(images)
            project.kill("s3")
            project.up()
            note(project.check())
            stored = project.compose("exec", "s3", "find", "/var/lib/garage/clipcite/blobs", "-type", "f")
            note(f"{len(stored.splitlines())} objects")
    finally:
        project.compose("down", "--volumes")


def main() -> None:
    if reason := own.why_not():
        sys.exit(f"The containers were not tested. {reason}")
    box = Path(*sys.argv[1:2] or [tempfile.gettempdir(), "clipcite-compose"]).absolute()
    images = box / "images"
    sample.write(images)
    engine = Engine(box)
    engine.start()
    say(docker("version", "--format=Engine {{.Server.Version}}"), end="")
    say(docker("compose", "version"), end="")
    say(f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    try:
        with step("images of Python, PostgreSQL and Valkey") as note:
            note(own.get_images(box))
        with step("docker build --target cpu") as note:
            note(own.build(box))
        size, base = (int(docker("image", "inspect", "--format={{.Size}}", i)) for i in (OURS, own.PYTHON))
        say(f"   {size / 1e9:.2f} GB, with {base / 1e9:.2f} GB of Debian and Python")
        assert size <= MAX_IMAGE_BYTES
        one_container()
        with own.small_disk(box, megabytes=3_000) as disk:
            override = f"volumes: {{data: {{driver_opts: {{type: none, o: bind, device: {disk}}}}}}}\n"
            project = Project(box / "project", NAME, override)
            try:
                session(project, images)
                faults(project, engine, disk, images)
                scaled(project, images)
                moved(project, box)
                upgraded(project)
            finally:
                project.compose("down", "--volumes")
        with_s3(box, images)
    finally:
        engine.stop()
    say("Nothing was lost.")


if __name__ == "__main__":
    main()
