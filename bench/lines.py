"""Code lines of each package, without docstrings, comments and blanks: at a commit, and now.

python -m bench.lines [COMMIT]
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NO_CODE: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def main() -> None:
    """Print a line for each package."""
    commit = sys.argv[1] if sys.argv[1:] else "HEAD"
    before = _count({name: _git("show", f"{commit}:{name}") for name in _named("ls-tree", commit)})
    now = _count(
        {
            name: (ROOT / name).read_text(encoding="utf-8")
            for name in _named("ls-files")
            if (ROOT / name).exists()
        }
    )
    print(f"{'package':24} {commit:>10} {'now':>8}")
    for package in sorted(before | now):
        print(f"{package:24} {before[package]:10} {now[package]:8}")
    print(f"{'all':24} {before.total():10} {now.total():8}")


def python_lines(text: str) -> int:
    """Count the lines of Python that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
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


def _count(files: dict[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, text in files.items():
        package = str(Path(name).parent).replace("/", ".")
        counts[package] += c_lines(text) if name.endswith(".c") else python_lines(text)
    return counts


def _named(*command: str) -> list[str]:
    how = ["-r", "--name-only", "--full-tree"] if command[0] == "ls-tree" else []
    names = _git(command[0], *how, *command[1:]).splitlines()
    return [name for name in names if name.endswith((".py", ".c"))]


def _git(*command: str) -> str:
    ran = subprocess.run(
        ["git", "-C", str(ROOT), *command], check=True, stdout=subprocess.PIPE, text=True
    )
    return ran.stdout


if __name__ == "__main__":
    main()
