"""`clipcite label-studio`: an ML backend for Label Studio that predicts, and trains on annotations."""

import base64
import json
import secrets
import threading
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urljoin, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from xml.etree import ElementTree

import typer

from clipcite.cli.connection import Exit, Key, Url, connected, give_up
from clipcite.errors import NotFoundError
from clipcite.types.foreign_site import LOOPBACK_HOST, foreign_reason

if TYPE_CHECKING:
    from clipcite import Client

MAX_BODY = 16_000_000
"""Maximum size of a request (bytes). Label Studio sends the URLs of images, not their content."""


def command(
    model: Annotated[str, typer.Option("--model", "-m", help="Model that predicts, such as pets@prod.")],
    listen: Annotated[str, typer.Option(help="Address for Label Studio's requests.")] = "127.0.0.1:9090",
    server: Annotated[str, typer.Option(help="Address of Label Studio.")] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(help="Access token, instead of the one that it sends.")] = "",
    retrain_after: Annotated[int, typer.Option(help="Train after N annotations (0: never).")] = 0,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another host of images.")] = None,
    secret: Annotated[
        str,
        typer.Option(envvar="CLIPCITE_LABEL_STUDIO_SECRET", help="Password that Label Studio must send."),
    ] = "",
    url: Url = None,
    key: Key = None,
) -> None:
    """Predict and train for Label Studio.

    Its button "Start Training" trains the next version of the model, and moves the alias to it.
    """
    host, _, port = listen.rpartition(":")
    if not secret and not LOOPBACK_HOST.fullmatch(listen):
        give_up(f"--listen {listen}: other machines could start trainings. Set a --secret.", Exit.USAGE)
    with connected(url, key) as client:
        backend = Backend(client, model, server, token, retrain_after, allow_host or [], secret)
        try:
            http = make_server(host, int(port), backend, ThreadingServer, Connection)
        except (OSError, OverflowError, ValueError) as error:
            give_up(
                f"--listen {listen}: {error}. Give HOST:PORT with a free port, such as 127.0.0.1:9091.",
                Exit.USAGE,
            )
        print(f"{model} is {backend.version()}. Listening at http://{listen} for {server}", flush=True)
        http.serve_forever()


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A server with a thread per request."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: the client has disconnected or timed out."""


class Connection(WSGIRequestHandler):
    """A connection that ends if nothing arrives for a minute."""

    timeout = 60


class LargeBody(ValueError):
    """A request has more bytes than `MAX_BODY`."""


@dataclass
class Backend:
    """WSGI application that handles Label Studio's requests.

    Requests must be JSON, which a page of another site can't send, and contain the secret. Without a secret,
    they must come from this machine.
    """

    client: "Client"
    model: str
    server: str
    token: str
    retrain_after: int
    hosts: list[str]
    secret: str = ""
    sent_token: str = ""
    changes: int = 0
    training: Any = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Handle a request. Label Studio shows the status of an error, and the terminal shows its text."""
        path, status = environ["PATH_INFO"], "200 OK"
        response = dict[str, Any](status="UP", model_class="clipcite")
        try:
            if not 0 <= (length := int(environ["CONTENT_LENGTH"] or 0)) <= MAX_BODY:
                raise LargeBody(f"A request may have {MAX_BODY:,} bytes, not {length:,}.")
            body = environ["wsgi.input"].read(length)
            self.check_sender(environ)
            sent = json.loads(body) if environ["CONTENT_TYPE"].startswith("application/json") else {}
            match path:
                case "/setup" | "/versions":
                    self.sent_token = sent.get("access_token", self.sent_token)
                    response = {"model_version": (version := self.version()), "versions": [version]}
                case "/predict":
                    response = {"results": self.predict(sent["tasks"], sent["label_config"])}
                case "/webhook":
                    status = "201 Created"
                    self.changes += sent["action"].startswith("ANNOTATION")
                    due = sent["action"] == "START_TRAINING" or 0 < self.retrain_after <= self.changes
                    if due and self.training.acquire(blocking=False):
                        self.changes = 0
                        threading.Thread(target=self.train, args=(sent["project"],), daemon=True).start()
        except Exception as error:
            print(f"{path}: {type(error).__name__}: {error}", flush=True)
            kinds = {PermissionError: "403 Forbidden", LargeBody: "413 Content Too Large"}
            status = kinds.get(type(error), "500 Internal Server Error")
            response = {"error": str(error)}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(response).encode()]

    def check_sender(self, environ: dict[str, Any]) -> None:
        """Raise PermissionError without the right secret or, if none is set, from another machine."""
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if self.secret:
            if scheme.lower() == "basic":  # from a model's settings; webhooks have their own headers
                given = base64.b64decode(given).decode().partition(":")[2]
            if not secrets.compare_digest(given.encode(), self.secret.encode()):
                raise PermissionError(
                    "The secret is missing or wrong. Enter it in Label Studio as the password of the model."
                )
            return
        names = (name for name in environ if name.startswith("HTTP_"))
        headers = {name[5:].replace("_", "-").lower(): environ[name] for name in names}
        if reason := foreign_reason(headers):
            raise PermissionError(f"Refused, because {reason}. To allow it, start with a --secret.")

    def version(self) -> str:
        """Return the id of the model that predicts, or `stock` until the model exists."""
        try:
            return self.client.models.get(self.model).id
        except NotFoundError:
            return "stock"

    def predict(self, tasks: list[Any], config: str) -> list[Any]:
        """Return the most likely choice of each task, or an empty result if its image can't be read."""
        source, tags, names = _choices(config)
        version, files = self.version(), [self.fetch(task["data"][source]) for task in tasks]
        found = []
        for result in self.client.classify(files, names, model=version, top_k=1).results:
            best = result.predictions or ()
            rows = [{**tags, "value": {"choices": [p.class_name]}, "score": p.probability} for p in best]
            found.append({"model_version": version, "score": rows[0]["score"] if rows else 0, "result": rows})
        return found

    def train(self, project: Any) -> None:
        """Train the next version on the images with one label, and move the alias to it."""
        try:
            source, tags, _ = _choices(project["label_config"])
            images: dict[str, list[bytes]] = {}
            for task in json.loads(self.fetch(f"/api/projects/{project['id']}/export?exportType=JSON")):
                rows = [row for a in task["annotations"] if not a["was_cancelled"] for row in a["result"]]
                labels = {n for row in rows if tags.items() <= row.items() for n in row["value"]["choices"]}
                if len(labels) == 1:
                    images.setdefault(labels.pop(), []).append(self.fetch(task["data"][source]))
            name, _, alias = self.model.partition("@")
            job = self.client.adapt(images, name=name).wait(until="model")
            if alias:
                self.client.aliases.promote(name, alias, str(job.model_id))
            print(f"{self.model} is {job.model_id}", flush=True)
        except Exception as error:  # another training may start after any error
            print(f"The training of {self.model} failed: {error}", flush=True)
        finally:
            self.training.release()

    def fetch(self, address: str) -> bytes:
        """Return a file. Only Label Studio gets the token. Other hosts must be allowed."""
        import httpx  # here, because the command line imports this module

        url, token, headers = urljoin(self.server, address), self.token or self.sent_token, {}
        if urlsplit(url)[:2] == urlsplit(self.server)[:2]:
            headers["Authorization"] = f"Token {token}"
            if token.count(".") == 2:  # a personal access token is exchanged for one of five minutes
                sent = httpx.post(urljoin(self.server, "/api/token/refresh"), json={"refresh": token})
                headers["Authorization"] = f"Bearer {sent.raise_for_status().json()['access']}"
        elif (host := urlsplit(url).hostname) not in self.hosts:
            raise ValueError(f"{url} is not at {self.server}. To fetch it, start with --allow-host {host}.")
        return httpx.get(url, headers=headers, timeout=60).raise_for_status().content


def _choices(config: str) -> tuple[str, dict[str, Any], list[str]]:
    """Return the image's field, the names of the tags and the choices. Raise ValueError."""
    root = ElementTree.fromstring(config)
    fields = {image.get("name"): image.get("value", "").lstrip("$") for image in root.iter("Image")}
    for tag in root.iter("Choices"):
        if (image := tag.get("toName")) in fields:
            names = [str(choice.get("alias") or choice.get("value")) for choice in tag.iter("Choice")]
            return fields[image], {"from_name": tag.get("name"), "to_name": image, "type": "choices"}, names
    raise ValueError(
        "The labelling configuration has no <Choices> for an <Image>. Add them under Settings > "
        "Labeling Interface."
    )
