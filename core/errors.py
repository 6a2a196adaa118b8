"""The base of all expected failures."""


class ClipCiteError(Exception):
    """A failure that a person can do something about; the message says what."""

    code = "internal_error"
    status = 500

    @property
    def detail(self) -> str:
        return str(self)
