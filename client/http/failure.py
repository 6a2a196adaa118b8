"""The exception for an answer that is an error."""

from client.http.calls import json_of
from client.http.errors import ServiceError, error_of
from client.http.parse import UnexpectedAnswer
from client.http.steps import Answer


def failure_of(answer: Answer) -> ServiceError:
    try:
        said = json_of(answer)
    except UnexpectedAnswer:
        said = None
    return error_of(answer.status, answer.headers, said)
