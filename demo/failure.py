"""Errors of the demo."""


class DemoFailed(Exception):
    """The end of the demo: the reason, and advice on the remedy."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
