"""The policy of retries."""

from clipcite.client.retry import Retry, retry_after


def test_pauses() -> None:
    retry = Retry(attempts=4, first_seconds=1, longest_seconds=60)
    assert 0.5 <= (retry.pause(1) or 0) <= 1
    assert 2 <= (retry.pause(3) or 0) <= 4
    assert retry.pause(4) is None
    assert retry.pause(1, {"retry-after": "7"}) == 7
    assert retry.pause(1, {"retry-after": "61"}) is None
    assert retry_after({"retry-after": "soon"}) is None
