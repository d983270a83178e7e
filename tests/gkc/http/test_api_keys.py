"""Keys, and the lines that let them in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkc.errors import CommandError
from gkc.http.api_keys import digest_of, line_of, new_key, read_keys


def test_a_line_lets_its_key_in(tmp_path: Path) -> None:
    first, second, third = (new_key() for _ in range(3))
    lines = ["# ours", line_of("web", first), "", line_of("web", second), line_of("job", third)]
    path = tmp_path / "keys"
    path.write_text("\r\n".join(lines) + "\n")
    assert read_keys(path) == {
        digest_of(first.encode()): "web",
        digest_of(second.encode()): "web",
        digest_of(third.encode()): "job",
    }


def test_a_key_is_long_and_new_each_time() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len("gkc_") + 43 and key.isascii() for key in keys)


@pytest.mark.parametrize("line", ["secret", "web:secret", f"w b:{'0' * 64}", f"web:{'0' * 63}"])
def test_a_line_that_is_none_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{line_of('web', new_key())}\n{line}\n")
    with pytest.raises(CommandError, match="keys, line 2, is not NAME:SHA256") as caught:
        read_keys(path)
    assert line not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n# none\n"])
def test_no_key_at_all_is_a_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(CommandError, match="holds no key; make one by"):
        read_keys(path)
