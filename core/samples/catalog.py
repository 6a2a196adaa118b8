"""The samples, in order of preference. The first one needs no package."""

from functools import lru_cache

from core.samples.drawings import DRAWINGS
from core.samples.parts import PARTS
from core.samples.sample import Sample, SampleUnavailable

SAMPLES = (PARTS, DRAWINGS)


def available() -> list[Sample]:
    """Return the samples whose images are installed. The first one is the default."""
    return [sample for sample in SAMPLES if sample.problem() is None]


def find(name: str) -> Sample:
    """Return an available sample.

    Raises:
        SampleUnavailable: no such sample, or its package is not installed.
    """
    for sample in SAMPLES:
        if sample.name == name:
            problem = sample.problem()
            if problem is not None:
                raise SampleUnavailable(f"The sample {name} is not available here. {problem}")
            return sample
    names = ", ".join(sample.name for sample in available())
    raise SampleUnavailable(f"No sample named {name!r}. Available: {names}.")


@lru_cache
def archive(name: str) -> bytes:
    """Return the zip of a sample, which is made once per process."""
    return find(name).archive()
