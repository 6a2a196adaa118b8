"""A Docker engine of our own, with the images of the compose file.

Where no registry can be reached, stand-ins for the images of Python, PostgreSQL and Valkey are made of
Debian's packages. Without PyTorch's index, its wheels are those that pip finds on this machine.
"""

import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.deploy.files import ROOT
from tests.service.running import wait_for

PACKAGES = {
    **{"dockerd": "docker.io", "docker": "docker-cli", "debootstrap": "debootstrap", "iptables": "iptables"},
    **{"ip": "iproute2", "mkfs.ext4": "e2fsprogs"},
}
PYTHON, OURS = "python:3.11-slim-trixie", "clipcite:cpu"
WHEELS_PORT = 8190  # always the same, so that the engine's cache of layers is used
LIBRARIES = (
    *("ca-certificates", "libssl3t64", "libffi8", "zlib1g", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libreadline8t64", "libncursesw6"),
)
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
INSTALL = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends"
# As the published images: user, volume, entry point, a cluster in UTF-8.
SERVERS = {
    "postgres:17": rf"""FROM {PYTHON}
RUN groupadd -g 999 postgres && useradd -u 999 -g 999 -d /var/lib/postgresql postgres \
 && {INSTALL} postgresql-17 && rm -rf /var/lib/postgresql/* \
 && install -d -o 999 -g 999 -m 700 /var/lib/postgresql/data
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/17/bin:$PATH
RUN printf '%s\n' '#!/bin/bash' 'set -e' 'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
 'initdb -E UTF8 --locale=C.UTF-8 -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust' \
 'echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"; pg_ctl -o "-c listen_addresses=" -w start' \
 'createdb -U "$POSTGRES_USER" "$POSTGRES_DB" || true; pg_ctl -m fast -w stop; fi' \
 'exec "$@" -c "listen_addresses=*"' > /entry.sh && chmod +x /entry.sh
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["/entry.sh"]
CMD ["postgres"]""",
    "valkey/valkey:8": f"""FROM {PYTHON}
RUN groupadd -g 999 valkey && useradd -u 999 -g 999 valkey && {INSTALL} valkey-server valkey-tools \
 && install -d -o valkey -g valkey /data
VOLUME /data
WORKDIR /data""",
}
# With the keys of Garage; its arguments follow and are ignored.
S3 = f"""FROM {PYTHON}
RUN pip install -q nanio
ENTRYPOINT ["sh", "-c", "mkdir -p /var/lib/garage/clipcite; NANIO_ACCESS_KEY=$GARAGE_DEFAULT_ACCESS_KEY \
NANIO_SECRET_KEY=$GARAGE_DEFAULT_SECRET_KEY exec nanio serve --data-dir /var/lib/garage --host 0.0.0.0 \
--port 3900 --region garage"]"""
S3_SERVICE = """services:
  s3:
    image: clipcite-test-s3
    healthcheck:
      test: [CMD, python3, -c, "import socket; socket.create_connection(('127.0.0.1', 3900)).close()"]
"""


class Failed(Exception):
    """A command or a check failed."""


def run(*command: str | Path, text: str | None = None, cwd: Path | None = None) -> str:
    """Run a command with `text` as its input. Return its standard output and error together."""
    done = subprocess.run(
        command, input=text, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


docker = functools.partial(run, "docker")


def works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def why_not() -> str | None:
    if sys.platform != "linux" or os.geteuid():
        return "Starting an engine needs root on Linux."
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if not works("docker", "compose", "version"):
        missing.append("docker-compose")
    if missing:
        return f"Missing: apt-get install {' '.join(missing)}"
    with suppress(OSError), socket.socket(socket.AF_UNIX) as other:
        other.connect("/var/run/docker.sock")
        return "Another Docker engine runs, whose networks this one would change. Stop it."
    return None


class Engine:
    """A Docker engine that keeps its data in a folder."""

    def __init__(self, box: Path) -> None:
        self.box = box
        os.environ["DOCKER_HOST"] = f"unix://{box}/docker.sock"

    def start(self) -> None:
        box = self.box
        places = ("--data-root", box / "data", "--exec-root", box / "exec", "--pidfile", box / "pid")
        (box / "pid").unlink(missing_ok=True)
        with (box / "engine.log").open("w") as log:
            command: list[str | Path] = ["dockerd", *places, "--host", os.environ["DOCKER_HOST"]]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

        def answers() -> bool:
            if self.process.poll() is not None:
                last = (box / "engine.log").read_text().splitlines()[-5:]
                raise Failed("The Docker engine does not start:\n" + "\n".join(last))
            return works("docker", "info")

        wait_for(answers, seconds=120)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(180)


def get_images(box: Path) -> str:
    """Get the images of Python, PostgreSQL and Valkey. Return where they come from."""
    made = []
    for image in (PYTHON, *SERVERS):
        if works("docker", "image", "inspect", image) or works("docker", "pull", "--quiet", image):
            continue
        made.append(image)
        if image == PYTHON:
            make_python(box / "rootfs")
        else:
            docker("build", "--quiet", "--tag", image, "-", text=SERVERS[image])
    return f"stand-ins: {', '.join(made)}" if made else "all here"


def make_python(root: Path) -> None:
    """Make a stand-in for the image of Python: Debian with the Python that runs this test in /usr/local."""
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    if prefix == Path("/usr"):
        raise Failed("A stand-in needs a Python with a folder of its own, for example from uv or pyenv.")
    shutil.rmtree(root, ignore_errors=True)
    run("debootstrap", "--variant=minbase", f"--include={','.join(LIBRARIES)}", "trixie", root)
    local = root / "usr/local"
    leave_out = shutil.ignore_patterns("site-packages", "test", "*.a", "__pycache__")
    shutil.copytree(prefix / "lib", local / "lib", symlinks=True, ignore=leave_out, dirs_exist_ok=True)
    for found in (prefix / "lib" / version / "site-packages").glob("pip*"):
        shutil.copytree(found, local / "lib" / version / "site-packages" / found.name)
    shutil.copy(prefix / "bin" / version, local / "bin")
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    pip = local / "bin/pip"
    pip.write_text(
        "#!/usr/local/bin/python\nfrom pip._internal.cli.main import main\nraise SystemExit(main())\n"
    )
    pip.chmod(0o755)
    shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)  # with that of this machine's proxy, if any
    (root / "etc/pip.conf").write_text(f"[global]\ncert = /{CERTIFICATES}\ntimeout = 180\n")
    run("chroot", root, "/sbin/ldconfig")
    run("sh", "-c", 'rm -rf "$0"/var/cache/apt/* "$0"/var/lib/apt/lists/*', root)
    path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("sh", "-c", 'tar -C "$0" -c . | docker import -c "$1" - "$2"', root, path, PYTHON)


def build(box: Path) -> str:
    """Build the target `cpu`. Return what there is to say about it."""
    command = ("build", "--network", "host", "--target", "cpu", "--tag", OURS)
    try:
        docker(*command, ROOT)
    except Failed as error:
        if "--build-arg TORCH_INDEX=" not in str(error):
            raise
        with index_of_wheels(box / "wheels") as url:
            docker(*command, "--build-arg", f"TORCH_INDEX={url}", ROOT)
        return "PyTorch's index is out of reach, and the build says so; wheels of this machine's pip"
    return "wheels of PyTorch's index"


@contextmanager
def index_of_wheels(wheels: Path) -> Iterator[str]:
    """Serve the wheels of PyTorch that pip finds on this machine. Yield the URL."""
    if not wheels.exists():
        options = ("download", "--quiet", "--no-deps", "--constraint", ROOT / "constraints.txt")
        run(sys.executable, "-m", "pip", *options, "--dest", wheels, "torch", "torchvision")
        for wheel in [*wheels.glob("*.whl")]:
            folder = wheels / wheel.name.split("-")[0]
            folder.mkdir()
            wheel.rename(folder / wheel.name)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(wheels))
    with ThreadingHTTPServer(("127.0.0.1", WHEELS_PORT), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{WHEELS_PORT}/"
        server.shutdown()


@contextmanager
def small_disk(box: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system for a volume, so that it can be filled."""
    disk, image = box / "disk", box / "disk.img"
    disk.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    run("mkfs.ext4", "-q", "-m", "0", image)
    run("mount", "-o", "loop", image, disk)
    try:
        (disk / "lost+found").rmdir()  # the engine fills an empty volume from the image, with its owner
        yield disk
    finally:
        run("umount", "--lazy", disk)
        image.unlink()
