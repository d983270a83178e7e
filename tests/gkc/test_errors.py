"""The tree of errors is the documented one, and every message says what, which and what to do."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from gkc import errors
from gkc.errors import GkcError

EXAMPLES: list[tuple[GkcError, list[str]]] = [
    (errors.RowRuleError("cannot be loaded", "a.so on x86_64"), ["loaded", "x86_64", "install"]),
    (errors.StoreUrlError("x:y", "has the unknown scheme 'x'"), ["'x:y'", "file:PATH"]),
    (errors.StoreUrlError("redis://...", "names no host", "name one"), ["host; name one"]),
    (errors.StoreUnavailableError("redis://h", "refused"), ["redis://h", "refused; mend that"]),
    (errors.StoreUnavailableError("redis://h", "is full", "empty it"), ["is full; empty it"]),
    (errors.UnsafeStoreError("redis://h", "evicts", "set noeviction"), ["evicts", "noeviction"]),
    (errors.CatalogueLostError("file:/x", "is gone"), ["file:/x", "is gone", "export again"]),
    (errors.OldCatalogueError("file:/x"), ["file:/x", "earlier gkc", "GKC_NAMESPACE", "--yes"]),
    (errors.NoOldCatalogueError("file:/x"), ["file:/x", "format 1", "GKC_NAMESPACE"]),
    (errors.EarlierFormatError(), ["earlier gkc", "format 1"]),
    (errors.VersionNotFoundError("v9", ["v2", "v1"]), ["'v9'", "v2, v1"]),
    (errors.VersionNotFoundError("v9", []), ["'v9'", "none"]),
    (errors.VersionNotReadyError("v1"), ["'v1'", "again"]),
    (errors.VersionBusyError("v1", "process 7"), ["'v1'", "process 7", "wait"]),
    (errors.VersionLimitError("v6", 2, ["a", "b"]), ["'v6'", "2 versions", "a, b", "unpin"]),
    (errors.NoPreviousGenerationError("v1"), ["'v1'", "export it again"]),
    (errors.LeaseLostError("v1", "g7"), ["'v1'", "g7", "run the export again"]),
    (errors.GenerationNotFoundError("g7"), ["g7", "deleted"]),
    (errors.GenerationCorruptError("g7", "users.gkt is short"), ["g7", "users.gkt is short"]),
    (errors.GenerationImmutableError("g7"), ["g7", "new generation"]),
    (errors.MalformedBodyError("JSON", "it ends early"), ["not JSON", "it ends early"]),
    (errors.InvalidFieldsError("is no id", "/i/3"), ["/i/3 is no id"]),
    (errors.InvalidFieldsError("has two forms", ""), ["the body has two forms"]),
    (errors.BatchTooLargeError(11, 10), ["11 rows", "at most 10", "several requests"]),
    (errors.TooManyValuesError(99, 10), ["99 values", "10 rows", "several requests"]),
    (errors.TooManyVersionsError(11, 10), ["11 versions", "at most 10", "several requests"]),
    (errors.BodyTooLargeError(99), ["99 bytes", "several requests"]),
    (errors.HeadTooLargeError("9 headers"), ["the head", "more than 9 headers", "send less"]),
    (errors.UrlTooLongError(99), ["longer than 99 bytes", "into the body"]),
    (errors.SlowRequestError("no head", 0.5), ["no head came within 0.5 seconds", "in one go"]),
    (errors.SlowReaderError(30), ["nothing of the answer was read within 30 seconds"]),
    (errors.UnsupportedMediaTypeError("text/csv", ["a/b", "c/d"]), ["'text/csv'", "a/b or c/d"]),
    (errors.UnsupportedMediaTypeError("", ["a/b"]), ["no Content-Type", "send a/b"]),
    (errors.EncodedBodyError("gzip"), ["Content-Encoding is 'gzip'", "send the body uncompressed"]),
    (errors.NotAcceptableError("text/csv", ["a/b", "c/d"]), ["text/csv", "accept a/b or c/d"]),
    (errors.OverloadedError(), ["too much to do", "ask again"]),
    (errors.ClientGoneError(), ["closed the connection"]),
    (errors.DeadlineExceededError("http://a", 0.5), ["http://a", "0.5 s;", "timeout="]),
    (errors.DeadlineExceededError("http://a", 0.5, "resolving"), ["0.5 s (resolving);"]),
    (errors.DeadlineExceededError("a", 0.5, allowed_by="X-A"), ["allow more by X-A"]),
    (errors.InvalidHeaderError("X-A", "send it once"), ["X-A", "send it once"]),
    (errors.GenerationChangedError("v1", "g1", "g2"), ["'v1'", "g1 to g2", "ask once more"]),
    (errors.ServiceError("http://a", "refused"), ["http://a: refused", "gkc serve"]),
    (errors.LockMismatchError("file:/s", "v1", "it is gone"), ["'v1'", "file:/s", "gone"]),
    (
        errors.TableFileError("a.parquet", "is null; fill it", "user_id", 3),
        ["a.parquet, column", "3"],
    ),
    (errors.NotStorableError(3, 70000.0, "f16"), ["row 3", "70000.0", "f16"]),
]


def all_errors() -> dict[str, type[GkcError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, GkcError)
    }


def test_the_drawn_tree_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    path: list[str] = []
    drawn: dict[str, str] = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    real = {name: value.__base__.__name__ for name, value in all_errors().items() if value.__base__}
    assert drawn == real


@pytest.mark.parametrize(("error", "words"), EXAMPLES, ids=lambda e: type(e).__name__)
def test_a_message_names_the_facts_and_the_remedy(error: GkcError, words: list[str]) -> None:
    message = str(error)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_constructors_keep_the_facts() -> None:
    for error, _ in EXAMPLES:
        for name in list(inspect.signature(type(error).__init__).parameters)[1:]:
            assert hasattr(error, name), f"{type(error).__name__}.{name}"


@pytest.mark.parametrize("error", [e for e, _ in EXAMPLES], ids=lambda e: type(e).__name__)
def test_an_error_survives_pickling_with_its_facts(error: GkcError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_error_has_a_detail_and_perhaps_fields() -> None:
    assert errors.InvalidFieldsError("is no id", "/i/3").errors == (
        errors.FieldError("/i/3", "is no id"),
    )
    assert errors.VersionNotReadyError("v1").errors == ()
    assert errors.VersionNotReadyError("v1").detail == str(errors.VersionNotReadyError("v1"))


def test_an_error_that_was_told_has_what_was_told() -> None:
    error = errors.VersionNotFoundError.as_told("no such thing", known=("v1",), status=404)
    assert isinstance(error, errors.VersionNotFoundError)
    assert (error.detail, error.known, error.status) == ("no such thing", ("v1",), 404)
    assert error.retry_after is None


def test_every_error_is_shown_here() -> None:
    shown = {type(error) for error, _ in EXAMPLES}
    takes_facts = {e for e in all_errors().values() if "__init__" in vars(e)}
    assert shown == takes_facts


def test_every_error_is_documented() -> None:
    assert all(value.__doc__ for value in all_errors().values())
