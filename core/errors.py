"""Base classes of expected failures."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipcite.types.problems import ProblemAction


class ExpectedError(Exception):
    """An expected failure. Its message states the cause and the remedy.

    The arguments are the parts of the message: texts, and actions with the request of a remedy.
    """

    code = "internal_error"
    status = 500

    def __str__(self) -> str:
        return "".join(map(str, self.args))

    @property
    def detail(self) -> str:
        return str(self)

    @property
    def actions(self) -> "list[ProblemAction]":
        return [part for part in self.args if not isinstance(part, str)]


class CodedError(ExpectedError):
    """An expected failure. Its `code` identifies the reason."""

    def __init__(self, code: str, *message: "str | ProblemAction") -> None:
        super().__init__(*message)
        self.code = code
