"""The questions that are asked at each start tell a library that answers wrongly."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gkc.errors import RowRuleError
from gkc.rows_library import LIBRARY, load
from gkc.rows_trial import RECORDED, Trial, check
from hatch_build import SOURCE, find_compiler
from tests.native import run_here, run_on_aarch64

PROGRAM = Path(__file__).with_name("rows_program.c")
FUNCTIONS = [
    "gkc_lay_rows",
    "gkc_distinct",
    "gkc_keys",
    "gkc_find_strings",
    "gkc_find_sorted",
    "gkc_take_strings",
    "gkc_check_records",
]
"""In the order of their numbers in the program."""
MUTANTS = [
    # numbers
    ("k] *= y[k]", "k] *= -y[k]"),
    ("0xfff + (magnitude >> 13 & 1)", "0x1000"),
    ("at += TILE", "at += TILE + 1"),
    ("4 + at + k", "4 + k"),
    # look-up
    ("(stored < category) low = middle + 1", "(stored < category) low = middle + 2"),
    ("high = middle;", "high = middle - 1;"),
    ("stored < category", "stored <= category"),
    ("begin += LOOKED_UP_AT_ONCE", "begin += LOOKED_UP_AT_ONCE + 1"),
    ("row < last; row++", "row < last - 1; row++"),
    ("*row = middle + 1", "*row = middle + 2"),
    ("*last = middle + 1", "*last = middle"),
    ("id ^= id >> 27", "id ^= id >> 28"),
    # strings
    ("hash ^= hash >> 32", "hash ^= hash >> 33"),
    ("(uint64_t)s.size + 1", "(uint64_t)s.size + 2"),
    ("(a.size > b.size) - (a.size < b.size)", "0"),
    ("if (!order) return middle;", "return middle;"),
    ("while (has_key(table, row + step, key)) step *= 2;", ""),
    ("; step /= 2", "; step = 0"),
    ("if (order < 0) low = middle + 1;", "if (order < 0) low = middle + 2;"),
    ("word >>= 8 * (8 - left)", "word >>= 8 * (7 - left)"),
    ("stops & tops) >> 3", "stops & tops) >> 4"),
    (r"word ^ ones * '\\'", "word ^ ones * '/'"),
    ("(word - ones * ' ') & ~word", "0"),
    ("> LONGEST_STRING", ">= LONGEST_STRING"),
    # checksums
    ("sum >> 8 ^ crc_tables[0][(sum", "sum >> 8 ^ crc_tables[1][(sum"),
    ("if (begin == end) continue;", "if (begin == end) return k;"),
    ("~(uint32_t)sum, id.bytes, id.size", "~(uint32_t)sum, id.bytes, 8"),
    # the rule
    ("? DEFAULT", "? FOUND"),
    ("category != last_category", "category < last_category"),
    ("last_user = u, last_pair = -2", "last_user = u"),
    ("has = g->has_category[place] != 0", "has = 1"),
    ("has = g->has_default_category != 0", "has = 0"),
    ("q->categories && q->given[c]", "q->categories"),
    ("q->answer_rows ? q->answer_rows[k] : k", "k"),
    ("q->one_item ? 0 : k]", "k]"),
    ("q->one_category ? 0 : k", "k"),
    ("q->counts[3 * part", "q->counts[2 * part"),
    ("!has_second || seconds[row] == seconds[k]", "1"),
]


def test_the_recorded_bits_come_on_every_processor(tmp_path: Path) -> None:
    file = tmp_path / "trial"
    file.write_bytes(packed(Trial()))
    assert run_here(PROGRAM, tmp_path, file) == 2 * f"{RECORDED}\n"
    assert run_on_aarch64(PROGRAM, tmp_path, file) == 2 * f"{RECORDED}\n"


def test_the_module_tells_what_to_record() -> None:
    command = [sys.executable, "-m", "gkc.rows_trial"]
    assert subprocess.check_output(command, text=True, timeout=60) == f"{RECORDED}\n"


def packed(trial: Trial) -> bytes:
    """Return a trial in the form that the program reads."""
    words = [len(trial.addresses), len(trial.calls), len(trial.answers), *trial.addresses]
    for name, arguments, expected in trial.calls:
        words += [FUNCTIONS.index(name), expected, *arguments, *[0] * (9 - len(arguments))]
    for answer in trial.answers:
        words += answer
    return struct.pack(f"{len(words)}q", *words) + trial.memory


@pytest.mark.parametrize(("code", "doctored"), MUTANTS)
def test_a_library_that_answers_other_bits_is_refused(
    code: str, doctored: str, tmp_path: Path
) -> None:
    with pytest.raises(RowRuleError, match="gives other bits"):
        check(load(build_doctored(tmp_path, code, doctored)))


def build_doctored(folder: Path, code: str, doctored: str) -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    text = SOURCE.read_text()
    assert code in text
    source, built = folder / "rows.c", folder / LIBRARY.name
    source.write_text(text.replace(code, doctored))
    compiler.build(source, built)
    return built
