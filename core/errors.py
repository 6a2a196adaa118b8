"""Base classes of expected failures."""


class ClipCiteError(Exception):
    """An expected failure. Its message states the cause and the remedy."""

    code = "internal_error"
    status = 500

    @property
    def detail(self) -> str:
        return str(self)


class CodedError(ClipCiteError):
    """An expected failure. Its `code` identifies the reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
