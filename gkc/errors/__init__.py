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
    │   ├── InvalidHeaderError            a header has a value that it cannot have
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
    ├── OverloadedError                   the service has too much to do to begin a request
    ├── ClientUsageError                  a client was made or used as it cannot be
    ├── DeadlineExceededError             no whole answer came in the time that is allowed
    ├── GenerationChangedError            a version was published anew while its rows were asked for
    ├── ServiceError                      a service cannot be reached, or its answer is none of ours
    ├── LockMismatchError                 what is served is not what a model was locked to
    ├── RowRuleError                      the compiled rule of rows does not work on this machine
    ├── TableFileError                    a table of rows cannot be joined; names file, column, row
    └── CommandError                      a command cannot do what it was asked; says what to do

Constructors take the facts, keep them as attributes and build the message: what, which, what to do.
"""

from __future__ import annotations

from gkc.errors.clients import (
    ClientUsageError,
    DeadlineExceededError,
    GenerationChangedError,
    LockMismatchError,
    ServiceError,
)
from gkc.errors.requests import (
    BatchTooLargeError,
    BodyTooLargeError,
    ClientGoneError,
    EncodedBodyError,
    HeadTooLargeError,
    InvalidFieldsError,
    InvalidHeaderError,
    MalformedBodyError,
    NotAcceptableError,
    OverloadedError,
    RequestError,
    SlowReaderError,
    SlowRequestError,
    TooManyValuesError,
    TooManyVersionsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UrlTooLongError,
)
from gkc.errors.root import CommandError, FieldError, GkcError
from gkc.errors.rows import (
    EarlierFormatError,
    LayoutError,
    NotStorableError,
    RecordError,
    RowRuleError,
    TableFileError,
)
from gkc.errors.store import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationImmutableError,
    GenerationNotFoundError,
    LeaseLostError,
    NoOldCatalogueError,
    NoPreviousGenerationError,
    OldCatalogueError,
    ServiceNotReadyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUrlError,
    UnsafeStoreError,
    VersionBusyError,
    VersionLimitError,
    VersionNotFoundError,
    VersionNotReadyError,
)

__all__ = [
    "BatchTooLargeError",
    "BodyTooLargeError",
    "CatalogueLostError",
    "ClientGoneError",
    "ClientUsageError",
    "CommandError",
    "DeadlineExceededError",
    "EarlierFormatError",
    "EncodedBodyError",
    "FieldError",
    "GenerationChangedError",
    "GenerationCorruptError",
    "GenerationImmutableError",
    "GenerationNotFoundError",
    "GkcError",
    "HeadTooLargeError",
    "InvalidFieldsError",
    "InvalidHeaderError",
    "LayoutError",
    "LeaseLostError",
    "LockMismatchError",
    "MalformedBodyError",
    "NoOldCatalogueError",
    "NoPreviousGenerationError",
    "NotAcceptableError",
    "NotStorableError",
    "OldCatalogueError",
    "OverloadedError",
    "RecordError",
    "RequestError",
    "RowRuleError",
    "ServiceError",
    "ServiceNotReadyError",
    "SlowReaderError",
    "SlowRequestError",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "StoreUrlError",
    "TableFileError",
    "TooManyValuesError",
    "TooManyVersionsError",
    "UnauthorizedError",
    "UnsafeStoreError",
    "UnsupportedMediaTypeError",
    "UrlTooLongError",
    "VersionBusyError",
    "VersionLimitError",
    "VersionNotFoundError",
    "VersionNotReadyError",
]
