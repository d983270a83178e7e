from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keep.errors import LogSchemaError
from keep.log import Log, day_file, open_log
from keep.sources import names
from keep.sources.parquet import ParquetOptions, import_parquet
from tests.keep.logs import write_tiny_log

OWN: dict[str, Any] = {
    "user": [1, 2, 3, 4],
    "item": [10, 20, 30, 40],
    "shop": [0, 0, 1, 1],
    "category": [5, 5, -6, -6],
    "day": [1, 3, 2, 1],
    "time": [100, 300, 200, 110],
    "scene": ["home", "ads", "ads", "home"],
    "click": [True, True, False, True],
    "cart": [True, False, False, False],
    "conversion": [False, True, False, False],
}


def _ignore(amount: int) -> None:
    """Take progress and show nothing."""
    assert amount >= 0


def _import(tmp_path: Path, options: ParquetOptions | None = None, **changes: Any) -> Log:
    file = tmp_path / "own.parquet"
    table = {name: column for name, column in {**OWN, **changes}.items() if column is not None}
    pq.write_table(pa.table(table), file)
    import_parquet([file], tmp_path / "log", options or ParquetOptions(), _ignore)
    return open_log(tmp_path / "log")


def _bytes_as_text(values: list[bytes]) -> pa.Array:
    """What a writer leaves that does not look at its strings; Arrow does not, either."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


STRINGS = {
    "user": ["u1", "u2", "u1", "\u00fc"],
    "item": ["1", "01", " 1", "x" * 128],
    "category": ["b", "a", "a", "b"],
}


@pytest.mark.parametrize("kinds", [("user",), ("item", "category"), ("user", "item", "category")])
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_strings_become_numbers_and_stay_beside_the_log(
    kinds: tuple[str, ...], kind: pa.DataType, tmp_path: Path
) -> None:
    log = _import(tmp_path, **{name: pa.array(STRINGS[name]).cast(kind) for name in kinds})
    assert log.info.string_ids == kinds
    rows = pa.concat_tables([log.table(day) for day in (1, 2, 3)])
    in_order = [0, 3, 2, 1]  # by day
    for name in ("user", "item", "category"):
        source = STRINGS if name in kinds else OWN
        named = log.named(name, rows.column(name).to_numpy())
        assert named.tolist() == [source[name][row] for row in in_order]


def test_a_string_has_the_same_number_whatever_days_are_imported(tmp_path: Path) -> None:
    seen = []
    for rows in (slice(0, 4), slice(2, 4)):
        strings = OWN | {"user": STRINGS["user"]}
        log = _import(tmp_path, **{name: values[rows] for name, values in strings.items()})
        seen.append(log.day(2).user.tolist())
    assert seen[0] == seen[1]


def test_ids_of_a_kind_are_of_one_type_in_all_files(tmp_path: Path) -> None:
    files = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for file, users in zip(files, (OWN["user"], STRINGS["user"]), strict=True):
        pq.write_table(pa.table({**OWN, "user": users}), file)
    message = f"2.parquet, column 'user': holds strings, but integers in {files[0]}"
    with pytest.raises(LogSchemaError, match=message):
        import_parquet(files, tmp_path / "log", ParquetOptions(), _ignore)
    assert not (tmp_path / "log").exists()


def test_strings_that_would_get_one_number_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "NUMBER_BYTES", 1)
    many = {name: column * 100 for name, column in OWN.items()}
    many["user"] = [f"u{number}" for number in range(400)]
    with pytest.raises(LogSchemaError, match="would get one number; rename one"):
        _import(tmp_path, **many)


def test_an_id_whose_string_is_not_there_is_told_of(tmp_path: Path) -> None:
    log = _import(tmp_path, user=STRINGS["user"])
    user = np.append(log.day(1).user, 7)
    with pytest.raises(LogSchemaError, match="no string for 1 of 3 ids, such as 7; take the log"):
        log.named("user", user)
    (log.path / "ids" / "users.parquet").unlink()
    with pytest.raises(
        LogSchemaError, match=r"\(there is no such file\); it has the strings of users"
    ):
        log.named("user", user)


def test_all_missing_columns_are_named_with_what_to_do(tmp_path: Path) -> None:
    changes = {"user": None, "user_id": OWN["user"], "shop": None, "cart": None, "time": None}
    with pytest.raises(LogSchemaError) as caught:
        _import(tmp_path, **changes)
    assert caught.value.reason == (
        "has no column 'user', 'shop', 'time', 'cart'; is 'user_id' it? rename it to 'user'; "
        "if you have nothing for them, write shop = 0, cart = false"
    )


def test_own_rows_become_a_log(tmp_path: Path) -> None:
    log = _import(tmp_path, ParquetOptions("shop", "from our warehouse", ("ads",)))
    assert (log.info.name, log.info.source) == ("shop", "from our warehouse")
    assert log.info.days == (1, 2, 3)
    assert (log.info.pretrain_until, log.info.train_days, log.info.test_day) == (1, (2,), 3)
    day = log.day(1)
    assert (day.user.tolist(), day.time.tolist()) == ([1, 4], [100, 110])
    assert day.sub_domain.tolist() == [False, False]
    assert log.day(3).sub_domain.tolist() == [True]


def test_all_scenes_are_the_sub_domain_unless_some_are_named(tmp_path: Path) -> None:
    assert _import(tmp_path).info.sub_domain_scenes == ("ads", "home")


def test_a_log_imported_from_another_is_the_same(tmp_path: Path) -> None:
    log = write_tiny_log(tmp_path / "tiny")
    files = [day_file(log.path, day) for day in log.info.days]
    import_parquet(files, tmp_path / "log", ParquetOptions(), _ignore)
    assert open_log(tmp_path / "log").info.checksum == log.info.checksum


@pytest.mark.parametrize(
    "changes",
    [
        {"user": pa.array([1, 2, 3, 4], pa.uint16())},
        {"day": pa.array([1, 3, 2, 1], pa.int8())},
        {"scene": pa.array(OWN["scene"]).dictionary_encode()},
        {"scene": pa.array(OWN["scene"], pa.large_string())},
        {"click": pa.array([1, 1, 0, 1], pa.uint8())},
        {"click": pa.array([1.0, 1.0, 0.0, 1.0])},
        {"time": pa.array([datetime.fromtimestamp(t, UTC) for t in OWN["time"]])},
        {"colour": ["red"] * 4},
    ],
)
def test_other_types_are_read_as_the_schema_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "plain").mkdir()
    plain = _import(tmp_path / "plain").info.checksum
    assert _import(tmp_path, **changes).info.checksum == plain


@pytest.mark.parametrize(
    ("changes", "column", "row", "message"),
    [
        ({"time": ["a", "b", "c", "d"]}, "time", None, "has type string, not int64"),
        ({"user": [1.0, 2.0, 3.0, 4.0]}, "user", None, "has type double, not int64 or string"),
        ({"user": pa.array([1, 2, 3, 2**63], pa.uint64())}, "user", 3, "int64; view the column as"),
        ({"user": pa.array([1, 2, None, 4])}, "user", 2, "is null"),
        ({"item": ["a", "b", None, "d"]}, "item", 2, "is null"),
        ({"user": ["a", "b", "a", ""]}, "user", 3, "of 0 bytes; an id has 1 to 128 bytes of UTF-8"),
        ({"category": ["a", "\u00e9" * 65, "b", "c"]}, "category", 1, "of 130 bytes"),
        ({"shop": _bytes_as_text([b"a", b"a", b"a\xff", b"b"])}, "shop", 2, "not UTF-8"),
        ({"scene": pa.array(["a", None, "b", "c"])}, "scene", 1, "is null"),
        ({"click": pa.array([1, 1, 2, 1])}, "click", 2, "is neither 0 nor 1"),
        ({"click": ["y", "y", "n", "y"]}, "click", None, "has type string, not bool"),
        ({"cart": [True, False, True, False]}, "cart", 2, "although click is false"),
        ({"conversion": [False, True, True, False]}, "conversion", 2, "although click is false"),
        ({"day": [1, 3, -2, 1]}, "day", 2, "is negative"),
        ({"day": [1, 3, 2, 2**31]}, "day", 3, "does not fit int32"),
        ({"time": [1, -1, 2, 3]}, "time", 1, "is negative"),
    ],
)
def test_a_fault_is_named_with_column_and_row(
    tmp_path: Path, changes: dict[str, Any], column: str, row: int | None, message: str
) -> None:
    with pytest.raises(LogSchemaError, match=message) as caught:
        _import(tmp_path, **changes)
    assert (caught.value.column, caught.value.row) == (column, row)
    assert caught.value.file == tmp_path / "own.parquet"
    assert [path.name for path in tmp_path.iterdir()] == ["own.parquet"]


def test_the_row_counts_through_the_whole_file(tmp_path: Path) -> None:
    count = 600_000
    click = np.ones(count, dtype=np.bool_)
    click[550_000] = False
    columns: dict[str, Any] = {
        name: np.ones(count, dtype=np.int64) for name in OWN if name != "scene"
    }
    columns |= {"scene": np.full(count, "ads"), "cart": np.ones(count, dtype=np.bool_)}
    columns["click"] = click
    with pytest.raises(LogSchemaError, match="column 'cart', row 550000"):
        _import(tmp_path, **columns)


def test_options_that_do_not_fit_the_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogSchemaError, match="no row is of the test day 9"):
        _import(tmp_path, ParquetOptions(test_day=9))
    with pytest.raises(LogSchemaError, match="no row has the scene 'video'"):
        _import(tmp_path, ParquetOptions(sub_domain_scenes=("video",)))


def test_an_earlier_test_day_leaves_later_days_out_of_the_splits(tmp_path: Path) -> None:
    info = _import(tmp_path, ParquetOptions(test_day=2)).info
    assert (info.days, info.pretrain_until, info.train_days) == ((1, 2, 3), 1, ())


def test_what_is_no_parquet_or_has_no_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(LogSchemaError, match="cannot be read as Parquet"):
        import_parquet([tmp_path / "text.parquet"], tmp_path / "log", ParquetOptions(), _ignore)
    empty = pa.table({name: pa.array(column)[:0] for name, column in OWN.items()})
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(LogSchemaError, match="not one row"):
        import_parquet([tmp_path / "empty.parquet"], tmp_path / "log", ParquetOptions(), _ignore)


def test_one_wrong_day_does_not_become_the_test_day(tmp_path: Path) -> None:
    rows = 800
    many = {name: column * (rows // 4) for name, column in OWN.items()}
    many["day"][-1] = 20_991_231
    with pytest.raises(LogSchemaError, match="name the test day: --test-day 3, or --test-day 2099"):
        _import(tmp_path, **many)
    assert _import(tmp_path, ParquetOptions(test_day=3), **many).info.test_day == 3


def test_numbers_and_scenes_in_dictionaries_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    plain = _import(tmp_path).info.checksum
    coded = {n: pa.array(OWN[n]).dictionary_encode() for n in ("item", "day", "scene")}
    assert _import(tmp_path, **coded).info.checksum == plain
    view = pa.array(OWN["scene"], pa.string_view())
    assert _import(tmp_path, scene=view).info.checksum == plain
