"""``gkc key``: a key on standard output, the line that lets it in on standard error."""

from __future__ import annotations

from pathlib import Path

from gkc.http.api_keys import digest_of, read_keys
from tests.gkc.cli.in_process import gkc


def test_a_new_key_is_let_in_by_its_line(tmp_path: Path) -> None:
    made = gkc("key", "new", "ranking")
    assert made.returncode == 0
    key, path = made.stdout.rstrip("\n"), tmp_path / "keys"
    assert key not in made.stderr
    path.write_text(made.stderr)
    assert read_keys(path) == {digest_of(key.encode()): "ranking"}


def test_a_name_that_no_line_can_have_is_refused() -> None:
    refused = gkc("key", "new", "a:b")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "a name is 1 to 64 of A-Z a-z 0-9 . _ -" in refused.stderr
