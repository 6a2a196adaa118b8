"""All codes of errors, warnings and findings with their messages, from the error classes and their uses."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import api.app  # noqa: F401  the classes of all modules
import core.clip.export.formats.tokenizer
import core.clip.export.onnx_graphs  # noqa: F401
import worker.job_runner  # noqa: F401
from api import starting
from clipcite.types.problems import ProblemAction
from core.errors import ExpectedError

ROOT = Path(__file__).parents[1]
Variables = Sequence[tuple[int, str, str]]
"""Line, name and text of each assignment of a text to a variable."""
CODE = re.compile(r"[a-z]+(_[a-z]+)+")
REQUEST = re.compile(r"[A-Z]+ /\S+( with \{.*\})?")
"""Text of an action, which is a part of its message."""
OWN_STATUS = {"BodyRefused", "ArchiveError", "InvalidUpload", "InvalidRequest"}
"""Classes whose status is an argument; the default is 422."""
JOB_FAILURES = {"TrainerFailed", "TrainerDied", "send", "end_lease"}
"""Calls whose code and detail become the `error` of a failed job."""
FRAMEWORK = {
    (400, "bad_request"): "The request is not valid HTTP. Let your HTTP client encode body and headers.",
    (404, "not_found"): "There is no route …. /docs lists all routes.",
    (405, "method_not_allowed"): "… does not support …. /docs lists all routes.",
    (
        408,
        "upload_too_slow",
    ): "No byte of the request arrived within … s. Nothing was stored. Send it again over a "
    "better connection.",
    (413, "request_too_large"): "The request has more than … bytes. Send fewer or smaller images.",
    (500, "internal_error"): "Internal error. The service's log has details under the request id ….",
    (413, "text_too_large"): "The text of the form is too large. Send fewer or shorter fields.",
    (422, "invalid_answers"): "An answer has a position or a name that the pile can't have; see errors.",
    (422, "invalid_corrections"): "An image or a class of the corrections doesn't exist; see errors.",
    (
        422,
        "no_training_images",
    ): "something_else compares images with training images, and this model, or these class names, "
    "have none. Use a trained model with an alpha above 0 and a trained class, or label images of a "
    "collection.",
    (422, "unclear_layout"): "There are images in … beside …. Put every class folder into train or test.",
    (
        422,
        "unsafe_path",
    ): "The path … is not a relative path with '/', is too deep, or has too many accents in a row. "
    "Rename it; if it is in an archive, pack it again.",
    (503, "busy"): "Too many requests like this one are in progress. Try again in … s.",
    (503, "model_loading"): "The model is still being loaded. Try again in a few seconds.",
    (503, "starting"): starting.DETAIL,
    (422, "label_count"): "There are … images but … labels. Send one label per image, in the same order.",
    (
        503,
        "too_many_open_files",
    ): "The server has too many open files. Send fewer images, send an archive, or try again later.",
}
"""Codes raised by the framework or the operating system, or with a message that several functions compose."""


@dataclass(frozen=True)
class Codes:
    """Messages by code. Responses have a status too, and findings the code of the job's warning."""

    responses: dict[tuple[int, str], str] = field(default_factory=lambda: dict(FRAMEWORK))
    images: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    findings: dict[tuple[str, str], str] = field(default_factory=dict)


@cache
def all_codes() -> Codes:
    """Collect the codes of every module of the service."""
    codes, messages = Codes(), defaultdict[str, list[str]](list)
    classes = {one.__name__: one for one in _subclasses(ExpectedError)}
    for function in _functions():
        for name, texts, status in _calls(function):
            code = next((text for text in texts if CODE.fullmatch(text)), None)
            start = next((i for i, text in enumerate(texts) if " " in text), 0)
            rest = texts[start:] if any(map(REQUEST.fullmatch, texts)) else texts[start : start + 1]
            message = "".join(rest) if any(" " in text for text in rest) else ""
            if name == "BadImage" and code:
                codes.images.setdefault(code, message)
            elif name == "warn" and code:
                codes.warnings.setdefault(code, message)
            elif code and name in JOB_FAILURES and message:
                codes.jobs.setdefault(code, message)
            elif code and (name in OWN_STATUS or (name in classes and "code" not in vars(classes[name]))):
                usual = classes[name].status if name in classes and name not in OWN_STATUS else 422
                key = (status or usual, code)
                codes.responses[key] = codes.responses.get(key) or message
            elif name in classes:
                messages[name].append(message)
        for code, warning, text in _dictionaries(function):
            if warning:
                codes.findings.setdefault((code, warning), text)
            else:
                codes.warnings.setdefault(code, text)
    for name, one in classes.items():
        if "code" in vars(one) and name != "Cancelled":
            distinct = list(dict.fromkeys(messages[name]))
            first = next(filter(None, distinct), "")
            text = first if len(distinct) == 1 and first else _summary(one) or first
            if one.status == ExpectedError.status:
                codes.jobs.setdefault(one.code, text)
            else:
                codes.responses.setdefault((one.status, one.code), text)
    return codes


def _subclasses(parent: type[ExpectedError]) -> Iterator[type[ExpectedError]]:
    for one in parent.__subclasses__():
        yield one
        yield from _subclasses(one)


def _summary(one: type) -> str:
    return (vars(one).get("__doc__") or "").strip().partition("\n")[0]


def _functions() -> Iterator[ast.AST]:
    for folder in ("api", "clipcite/types", "core", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    for inner in node.body:
                        # The message of `super().__init__("…")` is the message of the class.
                        for call in ast.walk(inner):
                            if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                                call.func = ast.Name(node.name)
                        yield inner
                else:
                    yield node


def _calls(function: ast.AST) -> Iterator[tuple[str, list[str], int | None]]:
    """Yield each call's name, the texts among its arguments, and its HTTP status, if any."""
    variables = _variables(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            arguments = [
                *node.args,
                *(k.value for k in node.keywords if k.arg in {"code", "detail", "status"}),
            ]
            texts = [text for argument in arguments if (text := _text(argument, variables))]
            numbers = [a.value for a in arguments if isinstance(a, ast.Constant) and type(a.value) is int]
            status = next((number for number in numbers if 400 <= number < 600), None)
            yield ast.unparse(node.func).rpartition(".")[2], texts, status


def _dictionaries(function: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield notices, `{"code": …, "detail": …}`, and findings: `{"tiny": ("tiny_images", "{n} …")}`."""
    variables = _variables(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Notice":
            given = {k.arg: k.value for k in node.keywords}
            if given.keys() == {"code", "detail"} and (code := _text(given["code"])):
                yield code, "", _text(given["detail"], variables)
        if not isinstance(node, ast.Dict):
            continue
        items = {_text(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
        if items.keys() == {"code", "detail"} and (code := _text(items["code"])):
            yield code, "", _text(items["detail"], variables)
        for finding, value in items.items():
            if isinstance(value, ast.Tuple) and len(value.elts) == 2:
                warning, text = (_text(element) for element in value.elts)
                if "{n}" in text:
                    yield finding, warning, text


def _variables(function: ast.AST) -> Variables:
    return sorted(
        (node.lineno, target.id, text)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and (text := _text(node.value))
    )


def _text(node: ast.AST, variables: Variables = ()) -> str:
    """Return the text of a string expression, with … for inserted values, or an empty one."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values]
        return re.sub("…+", "…", "".join(parts))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "ProblemAction.of":
        operation = _text(node.args[0])
        more = {k.arg: _text(k.value) for k in node.keywords if k.arg and f"{{{k.arg}}}" not in operation}
        return ProblemAction.of(operation, **more).request
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, variables) + _text(node.right, variables)
    if isinstance(node, ast.Name):
        before = [text for line, name, text in variables if name == node.id and line < node.lineno]
        return before[-1] if before else ""
    return ""
