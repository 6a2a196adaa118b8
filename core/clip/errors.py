"""Expected failures. Each names itself (`code`), says what to do (its message), and knows the
HTTP status that a server would answer with, without importing a web framework."""

from core.errors import ClipCiteError


class InvalidConfig(ClipCiteError):
    """A setting of an adaptation is out of its range. `field` names it."""

    code = "invalid_config"
    status = 422

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class InvalidClassNames(ClipCiteError):
    code = "invalid_class_names"
    status = 422


class BadImage(ClipCiteError):
    """An image that can't be used. `code` is one of the reasons below."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class UnknownBackbone(ClipCiteError):
    code = "unknown_backbone"
    status = 422


class BackboneUnavailable(ClipCiteError):
    """The backbone is known, but its files are missing, damaged or can't be fetched."""

    code = "backbone_unavailable"
    status = 503


class CorruptWeights(ClipCiteError):
    """The stored weights are not the ones that were written, or belong to another backbone."""

    code = "corrupt_weights"
    status = 503


class TrainingDiverged(ClipCiteError):
    code = "training_diverged"


class OutOfMemory(ClipCiteError):
    code = "out_of_memory"


class Cancelled(ClipCiteError):
    """The reporter asked for the training to stop. Not a failure."""

    code = "cancelled"
