"""The exception for an answer that is an error."""

from clipcite.client.errors import APIStatusError, error_of
from clipcite.client.parse import UnexpectedAnswer
from clipcite.client.request import Answer, json_of


def failure_of(answer: Answer) -> APIStatusError:
    try:
        said = json_of(answer)
    except UnexpectedAnswer:
        said = None
    return error_of(answer.status, answer.headers, said)
