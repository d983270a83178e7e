"""Errors about a request: what was asked, and how it came."""

from __future__ import annotations

from collections.abc import Sequence

from gkc.errors.root import FieldError, GkcError


class RequestError(GkcError):
    """A caller asked for something that cannot be answered as asked."""


class UnauthorizedError(RequestError):
    """The caller does not show what the service lets callers in by."""


class InvalidHeaderError(RequestError):
    """A header of a request has a value that it cannot have."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"header {name}: {reason}")


class MalformedBodyError(RequestError):
    """The body of a request is not in the format that it claims to be in."""

    def __init__(self, expected: str, reason: str) -> None:
        self.expected = expected
        self.reason = reason
        super().__init__(f"the body is not {expected}: {reason}")


class InvalidFieldsError(RequestError):
    """Fields of a request are missing, unknown, misplaced, of unequal lengths or wrong.

    What is wrong is the same with each of ``fields``. Of wrong values only the first is named.
    """

    def __init__(self, reason: str, *fields: str) -> None:
        self.reason = reason
        self.fields = fields
        self.errors = tuple(FieldError(field, reason) for field in fields)
        super().__init__("; ".join(f"{field or 'the body'} {reason}" for field in fields))


class BatchTooLargeError(RequestError):
    """One request asks for more rows than the service answers at once."""

    def __init__(self, rows: int, max_rows: int) -> None:
        self.rows = rows
        self.max_rows = max_rows
        super().__init__(
            f"{rows} rows in one request, at most {max_rows} are answered; send several requests"
        )


class TooManyValuesError(BatchTooLargeError):
    """One request holds more values than the rows could need that are answered at once."""

    def __init__(self, max_values: int, max_rows: int) -> None:
        self.max_values = max_values
        self.max_rows = max_rows
        RequestError.__init__(
            self,
            f"more than {max_values} values in one request, which is more than {max_rows} rows "
            "need, the most that are answered; send several requests",
        )


class TooManyVersionsError(RequestError):
    """One request names more versions than the service looks up at once."""

    def __init__(self, versions: int, max_versions: int) -> None:
        self.versions = versions
        self.max_versions = max_versions
        super().__init__(
            f"{versions} versions in one request, at most {max_versions} are answered; "
            "send several requests"
        )


class BodyTooLargeError(RequestError):
    """The body of a request has more bytes than the service reads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(
            f"the body is larger than {max_bytes} bytes, the most that is read; "
            "send several requests"
        )


class UnsupportedMediaTypeError(RequestError):
    """The body of a request is of a type that the service does not read."""

    def __init__(self, content_type: str, supported: Sequence[str]) -> None:
        self.content_type = content_type
        self.supported = tuple(supported)
        named = (
            f"Content-Type is {content_type!r}"
            if content_type
            else "the request has no Content-Type"
        )
        super().__init__(f"{named}; send {' or '.join(self.supported)}, and name it there")


class EncodedBodyError(RequestError):
    """The body of a request is compressed, or encoded in another way."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        super().__init__(
            f"Content-Encoding is {encoding!r}, which is not read; "
            "send the body uncompressed, without Content-Encoding"
        )


class NotAcceptableError(RequestError):
    """None of the types that the caller accepts can be answered."""

    def __init__(self, accept: str, supported: Sequence[str]) -> None:
        self.accept = accept
        self.supported = tuple(supported)
        super().__init__(
            f"nothing that Accept: {accept} allows can be answered; "
            f"accept {' or '.join(self.supported)}"
        )


class HeadTooLargeError(RequestError):
    """The head of a request has more than the service reads."""

    def __init__(self, limit: str) -> None:
        self.limit = limit
        super().__init__(f"the head of the request has more than {limit}; send less")


class UrlTooLongError(RequestError):
    """The URL of a request is longer than the service reads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(
            f"the URL is longer than {max_bytes} bytes; what is asked for belongs into the body"
        )


class SlowRequestError(RequestError):
    """A request does not arrive in the time that the service waits for it."""

    def __init__(self, missing: str, seconds: float) -> None:
        self.missing = missing
        self.seconds = seconds
        super().__init__(f"{missing} came within {seconds:g} seconds; send the request in one go")


class SlowReaderError(RequestError):
    """The caller does not read its answer; nobody is there to tell it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing of the answer was read within {seconds:g} seconds")


class OverloadedError(GkcError):
    """The service has too much to do to begin a request, which is no fault of the request."""

    def __init__(self) -> None:
        super().__init__("the service has too much to do at the moment; ask again a little later")


class ClientGoneError(RequestError):
    """The caller hung up before its request was read; nobody is there to answer."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection before its request was read")
