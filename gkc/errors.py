"""Every exception that gkc raises on purpose, as one tree; the exporter's and keep's hang below it.

::

    GkcError
    ├── StoreError                        something about the store or what it holds
    │   ├── StoreUrlError                 the URL names no store of ours
    │   ├── StoreUnavailableError         the store cannot be reached or does not answer
    │   │   └── StoreFullError            it has no room for what is written
    │   ├── UnsafeStoreError              the store may lose what is published into it
    │   ├── CatalogueLostError            a catalogue that was there has vanished, or is damaged
    │   │   └── OldCatalogueError         an earlier gkc wrote it
    │   ├── NoOldCatalogueError           there is nothing of an earlier gkc to delete
    │   ├── VersionNotFoundError          no such version in the catalogue
    │   ├── VersionNotReadyError          published, but not yet loaded by this process
    │   ├── ServiceNotReadyError          the service cannot answer for every version yet
    │   ├── VersionBusyError              another writer exports this version right now
    │   ├── VersionLimitError             every other version is pinned: nothing may be evicted
    │   ├── NoPreviousGenerationError     rollback without a previous generation
    │   ├── LeaseLostError                this writer was taken for dead and is fenced off
    │   ├── GenerationNotFoundError       the generation was deleted
    │   ├── GenerationCorruptError        data of a generation is missing or damaged
    │   └── GenerationImmutableError      writing to a generation that is sealed or published
    ├── LayoutError                       shapes, dtypes or widths that do not fit each other
    │   ├── NotStorableError              a vector is not finite in the stored element type
    │   └── RecordError                   bytes are not the record that they should be
    │       └── EarlierFormatError        an earlier gkc wrote them
    ├── RequestError                      a caller asked for something that cannot be answered
    │   ├── MalformedBodyError            the body is not JSON, or not safetensors
    │   ├── InvalidFieldsError            fields of a request are missing, misplaced or wrong
    │   ├── BatchTooLargeError            more rows than one request may ask for
    │   │   └── TooManyValuesError        more values than so many rows could need
    │   ├── UnauthorizedError             the caller does not show a key that is asked for
    │   ├── TooManyVersionsError          more versions than one request may name
    │   ├── BodyTooLargeError             more bytes than one request may have
    │   ├── UnsupportedMediaTypeError     the body is of a type that is not read
    │   ├── EncodedBodyError              the body is compressed
    │   ├── NotAcceptableError            no type that the caller accepts can be answered
    │   ├── HeadTooLargeError             the head of a request is too large
    │   ├── UrlTooLongError               its URL is too long
    │   ├── SlowRequestError              a request does not arrive
    │   ├── SlowReaderError               the caller does not read its answer
    │   └── ClientGoneError               the caller hung up before its request was read
    ├── ClientUsageError                  a client was made or used as it cannot be
    ├── DeadlineExceededError             no whole answer came within the caller's timeout
    ├── GenerationChangedError            a version was published anew while its rows were asked for
    ├── ServiceError                      a service cannot be reached, or its answer is none of ours
    ├── LockMismatchError                 what is served is not what a model was locked to
    ├── RowRuleError                      the compiled rule of rows does not work on this machine
    ├── TableFileError                    a table of rows cannot be joined; names file, column, row
    └── CommandError                      a command cannot do what it was asked; says what to do

Constructors take the facts, keep them as attributes and build the message: what, which, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request; ``field`` is a JSON Pointer (RFC 6901)."""

    field: str
    detail: str


class GkcError(Exception):
    """Base of every error that gkc raises on purpose.

    Attributes
    ----------
    errors : tuple of FieldError
        The fields of a question that are at fault, else none.
    status, title, retry_after : int, str, float, or None
        What a service told besides, where the error came over HTTP; ``retry_after`` in seconds.
    """

    errors: tuple[FieldError, ...] = ()
    status: int | None = None
    title: str | None = None
    retry_after: float | None = None

    @property
    def detail(self) -> str:
        """The message: what, which, what to do."""
        return str(self)

    @classmethod
    def as_told(cls, detail: str, **facts: Any) -> Self:  # noqa: ANN401
        """Return an error that another process met, with its message and the facts it told."""
        return _as_told(cls, (detail,), facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the facts: constructors take the latter alone."""
        return _as_told, (type(self), self.args, self.__dict__)


ErrorT = TypeVar("ErrorT", bound=GkcError)


def _as_told(cls: type[ErrorT], args: tuple[Any, ...], facts: dict[str, Any]) -> ErrorT:
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error


class StoreError(GkcError):
    """Something about the store or what it holds."""


class StoreUrlError(StoreError):
    """The URL names no store that gkc knows."""

    def __init__(self, url: str, reason: str, remedy: str = "") -> None:
        self.url = url
        self.reason = reason
        self.remedy = remedy or (
            "use file:PATH, redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix://PATH"
        )
        super().__init__(f"store URL {url!r}: {reason}; {self.remedy}")


class StoreUnavailableError(StoreError):
    """The store cannot be reached, refuses us, or does not answer in time."""

    def __init__(self, store: str, cause: str, remedy: str = "") -> None:
        self.store = store
        self.cause = cause
        self.remedy = remedy or "mend that, then try again"
        super().__init__(f"store {store} is not available: {cause}; {self.remedy}")


class StoreFullError(StoreUnavailableError):
    """The store has no room for what is written, until something else is deleted."""


class UnsafeStoreError(StoreError):
    """The store is set up so that it may lose what is published into it."""

    def __init__(self, store: str, reason: str, remedy: str) -> None:
        self.store = store
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"store {store} is not safe to publish into: {reason}; {remedy}")


class CatalogueLostError(StoreError):
    """A catalogue that was there has vanished, or cannot be read as a catalogue."""

    def __init__(self, store: str, reason: str, remedy: str = "") -> None:
        self.store = store
        self.reason = reason
        self.remedy = remedy or "restore it from a backup or export again"
        super().__init__(f"catalogue of {store}: {reason}; {self.remedy}")


class OldCatalogueError(CatalogueLostError):
    """The catalogue is one of an earlier gkc, whose versions this one cannot serve."""

    REASON = (
        "it was written by an earlier gkc, in format 1, which this one does not read; choose "
        "another GKC_NAMESPACE, switch the service, then `gkc versions delete --old-format --yes`"
    )

    def __init__(self, store: str) -> None:
        super().__init__(store, self.REASON)
        self.args = (f"catalogue of {store}: {self.REASON}",)


class NoOldCatalogueError(StoreError):
    """Data of an earlier gkc is to be deleted, but the catalogue is none of it."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(
            f"store {store} holds no catalogue of format 1 in this namespace; "
            "check GKC_NAMESPACE and --store"
        )


class VersionNotFoundError(StoreError):
    """No such version in the catalogue."""

    def __init__(self, version: str, known: Sequence[str]) -> None:
        self.version = version
        self.known = tuple(known)
        there = ", ".join(self.known) if self.known else "none"
        super().__init__(f"version {version!r} is not in the store; versions there: {there}")


class VersionNotReadyError(StoreError):
    """The version is published, but this process has not loaded it yet; why, if it tried."""

    def __init__(self, version: str, cause: str = "") -> None:
        self.version = version
        self.cause = cause
        state = f"cannot be loaded: {cause}; this is tried again" if cause else "is being loaded"
        super().__init__(f"version {version!r} {state}; ask again shortly")


class ServiceNotReadyError(StoreError):
    """The service cannot answer yet for every version that it should."""


class VersionBusyError(StoreError):
    """Another writer exports this version right now."""

    def __init__(self, version: str, holder: str) -> None:
        self.version = version
        self.holder = holder
        super().__init__(
            f"version {version!r} is being written by {holder}; wait for it to end, then run again"
        )


class VersionLimitError(StoreError):
    """Publishing would need an eviction, but every other version is pinned."""

    def __init__(self, version: str, max_versions: int, pinned: Sequence[str]) -> None:
        self.version = version
        self.max_versions = max_versions
        self.pinned = tuple(pinned)
        super().__init__(
            f"version {version!r} does not fit: at most {max_versions} versions, and every "
            f"other one is pinned ({', '.join(self.pinned)}); unpin or delete one, "
            "or raise --max-versions"
        )


class NoPreviousGenerationError(StoreError):
    """Rollback was asked for a version that has no previous generation."""

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(
            f"version {version!r} has no previous generation to roll back to; "
            "export it again instead"
        )


class LeaseLostError(StoreError):
    """The writer was taken for dead: its lease ran out or was taken over."""

    def __init__(self, version: str, generation: str) -> None:
        self.version = version
        self.generation = generation
        super().__init__(
            f"lost the writer lease of version {version!r} while writing {generation}; "
            "nothing was published; run the export again"
        )


class GenerationNotFoundError(StoreError):
    """The generation is not in the store (any more)."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"generation {generation} is not in the store; it was deleted or never published"
        )


class GenerationCorruptError(StoreError):
    """Data that belongs to a generation is missing or damaged."""

    def __init__(self, generation: str, what: str) -> None:
        self.generation = generation
        self.what = what
        super().__init__(f"generation {generation} is damaged: {what}; export its version again")


class GenerationImmutableError(StoreError):
    """Something tried to write to a generation that is sealed or published."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        super().__init__(
            f"generation {generation} is sealed and never changes; write a new generation"
        )


class LayoutError(GkcError):
    """Shapes, dtypes or widths that do not fit each other."""


class NotStorableError(LayoutError):
    """A vector does not stay finite in the element type it is stored in.

    ``row`` is the position of the first such vector in the array that was given.
    """

    def __init__(self, row: int, value: float, element_type: str) -> None:
        self.row = row
        self.value = value
        self.element_type = element_type
        super().__init__(f"row {row} holds {value!r}, which is not finite as {element_type}")


class RecordError(LayoutError):
    """Bytes are not the record that they should be; the message names the field."""


class EarlierFormatError(RecordError):
    """Bytes are a record that an earlier gkc wrote."""

    def __init__(self) -> None:
        super().__init__("was written by an earlier gkc, in format 1")


class RequestError(GkcError):
    """A caller asked for something that cannot be answered as asked."""


class UnauthorizedError(RequestError):
    """The caller does not show what the service lets callers in by."""


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


class ClientGoneError(RequestError):
    """The caller hung up before its request was read; nobody is there to answer."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection before its request was read")


class ClientUsageError(GkcError):
    """A client was made or used as it cannot be; the message says what is wrong and what to do."""

    CLOSED = "this client is closed; make another one"
    OTHER_LOOP = "this AsyncClient belongs to another event loop; make one in each loop"


class DeadlineExceededError(GkcError):
    """No whole answer came within the caller's timeout."""

    def __init__(self, source: str, timeout_seconds: float, reason: str = "") -> None:
        self.source = source
        self.timeout_seconds = timeout_seconds
        self.reason = reason
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"{source} gave no whole answer within {timeout_seconds:g} s{because}; "
            "allow more by timeout=, or ask for fewer rows"
        )


class GenerationChangedError(GkcError):
    """A version was published anew, again and again, while its rows were asked for in pieces."""

    def __init__(self, version: str, first: str, later: str) -> None:
        self.version = version
        self.first = first
        self.later = later
        super().__init__(
            f"version {version!r} went from generation {first} to {later} while its rows were "
            "asked for in pieces, also when they were asked for again; ask once more"
        )


class ServiceError(GkcError):
    """A service cannot be reached, or what it answers is no answer of ours."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"service {url}: {reason}; see that gkc serve runs there, and nothing between changes "
            "answers"
        )


class LockMismatchError(GkcError):
    """What is served is not what a downstream model was locked to."""

    def __init__(self, store: str, version: str, reason: str) -> None:
        self.store = store
        self.version = version
        self.reason = reason
        super().__init__(
            f"version {version!r} of {store} is not what was locked: {reason}; serve what the "
            "model was trained on, or train it anew and lock that"
        )


class RowRuleError(GkcError):
    """The compiled rule of a row is missing, is of another platform, or answers other bits."""

    def __init__(self, reason: str, build: str) -> None:
        self.reason = reason
        self.build = build
        super().__init__(
            f"the compiled rule of rows {reason}; it is {build}: install gkc anew for this machine "
            "(in a checkout: make install)"
        )


class TableFileError(GkcError):
    """A table of rows cannot be joined, or a file is in the way of what would be written.

    ``row`` counts from 0 within its file, or within all batches that were given.
    """

    def __init__(
        self, file: str, problem: str, column: str | None = None, row: int | None = None
    ) -> None:
        self.file = file
        self.problem = problem
        self.column = column
        self.row = row
        where = "" if column is None else f", column {column!r}"
        where += "" if row is None else f", row {row} (counted from 0)"
        super().__init__(f"{file}{where}: {problem}")


class CommandError(GkcError):
    """A command cannot do what it was asked to do; the message says why and what to do."""
