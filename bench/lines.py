"""Code lines of each package, without docstrings, comments and blanks: at a commit, and now.

python -m bench.lines [COMMIT]
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.checkouts import ROOT, unpack


def main() -> None:
    """Print a line for each package."""
    commit = sys.argv[1] if sys.argv[1:] else "HEAD"
    list_files = ["git", "-C", str(ROOT), "ls-files"]
    listed = subprocess.run(list_files, check=True, stdout=subprocess.PIPE, text=True).stdout
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        unpack(commit, folder)
        before = _count(folder, (str(file.relative_to(folder)) for file in folder.rglob("*.*")))
    now = _count(ROOT, (name for name in listed.splitlines() if (ROOT / name).exists()))
    print(f"{'package':24} {commit:>10} {'now':>8}")
    for package in sorted(before | now):
        print(f"{package:24} {before[package]:10} {now[package]:8}")
    print(f"{'all':24} {before.total():10} {now.total():8}")


def python_lines(text: str) -> int:
    """Count the lines of Python that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT and token.string.strip():
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            said = node.body[0]
            lines.difference_update(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    return len(lines)


def c_lines(text: str) -> int:
    """Count the lines of C that hold code."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    return sum(1 for line in code.splitlines() if line.strip())


def _count(folder: Path, names: Iterable[str]) -> Counter[str]:
    counters = {".py": python_lines, ".c": c_lines}
    counts: Counter[str] = Counter()
    for path in map(Path, names):
        if path.suffix in counters:
            text = (folder / path).read_text(encoding="utf-8")
            counts[str(path.parent).replace("/", ".")] += counters[path.suffix](text)
    return counts


if __name__ == "__main__":
    main()
