"""The errors the server answers with, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def error_body(
    message: str,
    *,
    type: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> Json:
    """The JSON object that OpenAI sends with every refusal."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def batch_error(
    code: str, message: str, *, line: int | None = None, param: str | None = None
) -> Json:
    """One entry of a batch's `errors.data`."""
    return {"code": code, "message": message, "line": line, "param": param}


class ApiError(Exception):
    """A call the server refuses: an HTTP status and an error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, type=type, param=param, code=code)
        self.headers: Mapping[str, str] = {}

    @classmethod
    def of(cls, status: int, body: Json, headers: Mapping[str, str]) -> ApiError:
        """The error with a body and headers that were already written."""
        error = cls(status, "")
        error.body, error.headers = body, headers
        return error


def missing(param: str) -> ApiError:
    """A required parameter is absent."""
    return ApiError(
        400,
        f"Missing required parameter: '{param}'.",
        param=param,
        code="missing_required_parameter",
    )


def unknown(param: str) -> ApiError:
    """A parameter that the endpoint does not have."""
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def invalid(param: str, reason: str, code: str = "invalid_value") -> ApiError:
    """A parameter whose value is not acceptable."""
    return ApiError(400, f"Invalid '{param}': {reason}", param=param, code=code)


def no_file(file_id: str) -> ApiError:
    """The file does not exist, or no longer."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def no_batch(batch_id: str) -> ApiError:
    """The batch does not exist, or is not visible yet."""
    return ApiError(404, f"No batch found with id '{batch_id}'.")


def bad_key(key: str) -> ApiError:
    """A key nobody gave out; OpenAI repeats its two ends in the message."""
    shown = f"{key[:4]}{'*' * max(len(key) - 8, 4)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
    return ApiError(
        401,
        f"Incorrect API key provided: {shown}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def no_key() -> ApiError:
    """A call without an Authorization header."""
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )
