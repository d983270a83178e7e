"""Lines of code are those that hold any."""

from __future__ import annotations

from bench.lines import c_lines, python_lines


def test_python_without_docstrings_comments_and_blanks() -> None:
    text = (
        '"""Of a module."""\n\n# why\nx = """a\nb"""\n\n\ndef f():\n    """Do."""\n    return x\n'
    )
    assert python_lines(text) == 4


def test_c_without_comments_and_blanks() -> None:
    assert c_lines("/* one\n two */\nint a; // why\n\n// only this\nint b;\n") == 2
