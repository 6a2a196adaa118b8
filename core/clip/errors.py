"""Expected failures: a stable `code`, a message with the remedy, and an HTTP status.

No web framework is needed to raise them.
"""

from core.errors import ClipCiteError


class InvalidConfig(ClipCiteError):
    """A setting that is unknown or out of range. `field` names the setting."""

    code = "invalid_config"
    status = 422

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class InvalidClassNames(ClipCiteError):
    """A class name that can't be used, or too few classes."""

    code = "invalid_class_names"
    status = 422


class BadImage(ClipCiteError):
    """An image that can't be used. `core.clip.data.images.open_image` lists the codes."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class NoDecoder(ClipCiteError):
    """Processes that decode images can't be started."""

    code = "decoder_unavailable"
    status = 503


class UnknownBackbone(ClipCiteError):
    """A backbone name that neither open_clip nor this software knows."""

    code = "unknown_backbone"
    status = 422


class BackboneUnavailable(ClipCiteError):
    """A known backbone whose files are missing, damaged or out of reach."""

    code = "backbone_unavailable"
    status = 503


class CorruptWeights(ClipCiteError):
    """Stored weights that were altered since they were written, or that belong to another backbone."""

    code = "corrupt_weights"
    status = 503


class TrainingDiverged(ClipCiteError):
    """A loss or trained weights that are not finite."""

    code = "training_diverged"


class OutOfMemory(ClipCiteError):
    """Device memory too small even for the smallest micro-batch."""

    code = "out_of_memory"


class Cancelled(ClipCiteError):
    """A stop that the reporter requested. Not a failure."""

    code = "cancelled"
