"""Python client of clipcite, a self-hosted service for few-shot adaptation of CLIP.

from clipcite import Client

with Client("http://127.0.0.1:8000") as client:
    job = client.adapt("images", config={"epochs": 10}).wait()
    response = client.classify(["a.jpg"], ["red fox", "badger"], model=job.model_id)
    print(response[0].best.class_name)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipcite.public import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """Import the client with the first use of a name: the service imports only `clipcite.types`."""
        names = {key: value for key, value in vars(import_module("clipcite.public")).items() if key[0] != "_"}
        if name == "__all__":
            return [*names]
        if name not in names:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return names[name]

    def __dir__() -> list[str]:
        return [*globals(), *__getattr__("__all__")]
