"""What the demo says when it can't go on."""


class DemoFailed(Exception):
    """The demo ends here. `advice` says what to do; both are printed as they are."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
