"""The client for ordinary programs; `async_client` has the same methods to await."""

from clipcite.client import request as calls
from clipcite.client._sync.models import Models
from clipcite.client.types import Readiness


class Client(Models):
    """A clipcite service.

    Args:
        base_url: its address; default CLIPCITE_URL, or http://127.0.0.1:8000.
        api_key: sent as `Authorization: Bearer`; default CLIPCITE_API_KEY, or none.
        retry: when requests are sent again; `Retry(attempts=1)` never does.
        verify: False, or an `ssl.SSLContext`, for certificates that this machine does not know.

    Every method raises `APIConnectionError` when there is no answer and a `APIStatusError` with the service's
    words when it is an error. One client may be shared by threads.
    """

    def ready(self) -> Readiness:
        """Whether the service can work, part by part."""
        return self._send(calls.ready())
