"""Expected failures: a stable `code`, a message with the remedy, and an HTTP status.

They do not depend on a web framework.
"""

from core.errors import ExpectedError


class InvalidConfig(ExpectedError):
    """A setting that is unknown or out of range. `field` names the setting."""

    code = "invalid_config"
    status = 422

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class InvalidClassNames(ExpectedError):
    """A class name that can't be used, or too few classes."""

    code = "invalid_class_names"
    status = 422


class BadImage(ExpectedError):
    """An image that can't be used. `core.clip.data.images.open_image` lists the codes."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class NoDecoder(ExpectedError):
    """Processes that decode images can't be started."""

    code = "decoder_unavailable"
    status = 503


class UnknownBackbone(ExpectedError):
    """The backbone's name is unknown to open_clip and to this software."""

    code = "unknown_backbone"
    status = 422


class BackboneUnavailable(ExpectedError):
    """The files of a known backbone are missing, damaged or unreachable."""

    code = "backbone_unavailable"
    status = 503


class CorruptWeights(ExpectedError):
    """The stored weights have changed since they were written, or belong to another backbone."""

    code = "corrupt_weights"
    status = 503


class TrainingDiverged(ExpectedError):
    """A loss or the trained weights are not finite."""

    code = "training_diverged"


class OutOfMemory(ExpectedError):
    """Device memory is too small even for the smallest micro-batch."""

    code = "out_of_memory"


class Cancelled(ExpectedError):
    """The reporter requested a stop. This is not a failure."""

    code = "cancelled"
