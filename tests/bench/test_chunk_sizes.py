"""The measurement behind the size of chunks runs, and tells a figure of every size."""

from __future__ import annotations

import pytest

from bench import chunk_sizes


@pytest.mark.slow
def test_every_size_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chunk_sizes, "SPAN_SECONDS", 0.02)
    monkeypatch.setattr(chunk_sizes, "KIB", (256, 512))
    monkeypatch.setattr(chunk_sizes, "AT_ONCE", (1, 2))
    chunk_sizes.main(mib=4, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["256", "1"],
        ["256", "2"],
        ["512", "1"],
        ["512", "2"],
    ]
    assert all(float(line.split()[-1]) >= 1 for line in lines[1:])
