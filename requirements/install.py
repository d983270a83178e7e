"""Make ``.venv`` in this repository: the pinned packages, torch in a fitting build, and gkc itself.

Run by ``make install`` with any Python from 3.11 on; it needs nothing but the standard library, and
not even a C compiler: where there is none that will do, one is installed as a package.
torch is outside the hashed files because one release has many builds: pip is asked first what it
would install, and CUDA packages (gigabytes) are only taken when they were asked for.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatch_build import LIBRARY, SOURCE, find_compiler, zig

MINIMUM_PYTHON = (3, 11)
TORCH_RELEASE = "2.13.0"
CHOICES = ("cpu", "cuda", "none")

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
VENV_PIP = VENV / "bin" / "pip"
STAMP = VENV / "gkc-install.json"
LOCK_FILE = ROOT / "requirements" / "dev.txt"
ZIG_LOCK_FILE = ROOT / "requirements" / "zig.txt"
INPUTS = (
    LOCK_FILE,
    ZIG_LOCK_FILE,
    ROOT / "pyproject.toml",
    ROOT / "hatch_build.py",
    SOURCE,
    Path(__file__).resolve(),
)

_ACCELERATOR_PACKAGE = re.compile(r"^(nvidia-.*|cuda-.*|triton|pytorch-triton.*|rocm.*|hip-.*)$")
_HEAD_TIMEOUT_SECONDS = 10.0

Report = dict[str, Any]
"""What ``pip install --dry-run --report`` writes (its version 1)."""


class InstallError(Exception):
    """An installation step failed; the message names the cause and what to do."""


def is_cpu_build(report: Report) -> bool:
    """Tell whether pip would install torch without packages for an accelerator.

    Parameters
    ----------
    report : dict
        pip's installation report for a torch requirement, dependencies included.

    Returns
    -------
    bool
        True for a build tagged ``+cpu``, and for an untagged build that brings no CUDA, ROCm or
        Triton package; False else.

    Raises
    ------
    InstallError
        If the report does not contain torch.
    """
    versions = {_name(entry): str(entry["metadata"]["version"]) for entry in report["install"]}
    if "torch" not in versions:
        raise InstallError("pip's report names no torch: look at `pip install --dry-run torch`")
    local_tag = versions["torch"].partition("+")[2]
    if local_tag:
        return local_tag == "cpu"
    return not any(_ACCELERATOR_PACKAGE.match(name) for name in versions)


def plan_torch(choice: str, default: Report, cpu: Report | None) -> str | None:
    """Choose the torch requirement to install.

    Parameters
    ----------
    choice : {"cpu", "cuda", "none"}
        What the user asked for.
    default : dict
        pip's report for ``torch==RELEASE``; unused for "none".
    cpu : dict or None
        pip's report for ``torch==RELEASE+cpu``, or None where pip finds no such build.

    Returns
    -------
    str or None
        A requirement, or None if torch is not to be installed or only a refused build is at hand.
    """
    if choice == "none":
        return None
    if choice == "cuda" or is_cpu_build(default):
        return f"torch=={TORCH_RELEASE}"
    return f"torch=={TORCH_RELEASE}+cpu" if cpu is not None else None


def download_bytes(report: Report) -> tuple[int, int]:
    """Add up what pip would download.

    Parameters
    ----------
    report : dict
        pip's installation report.

    Returns
    -------
    tuple of (int, int)
        Bytes of the files whose size could be learnt, and the number of the other files.
    """
    sizes = [_url_bytes(entry["download_info"]["url"]) for entry in report["install"]]
    return sum(size for size in sizes if size is not None), sizes.count(None)


def refusal(report: Report) -> str:
    """Say in one line why torch is not installed, what it would cost and which ways are left.

    Parameters
    ----------
    report : dict
        pip's installation report for the build with CUDA packages.

    Returns
    -------
    str
        The message; the size is what the files' servers state.
    """
    known_bytes, unknown = download_bytes(report)
    size = f"{known_bytes / 1e9:.1f} GB" if known_bytes else "an unknown amount (gigabytes)"
    if known_bytes and unknown:
        size = f"at least {size}"
    return (
        f"torch {TORCH_RELEASE} would bring CUDA packages ({size} to download) and pip's indexes "
        "hold no CPU build: take it with `make install TORCH=cuda`, or install service and "
        "exporter only with `make install TORCH=none`, or let pip find a CPU wheel (PIP_FIND_LINKS)"
    )


def _name(entry: dict[str, Any]) -> str:
    return re.sub(r"[-_.]+", "-", str(entry["metadata"]["name"])).lower()


def _url_bytes(url: str) -> int | None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_HEAD_TIMEOUT_SECONDS) as answer:
            length = answer.headers["Content-Length"]
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None
    return int(length) if length is not None else None


def _make_venv() -> None:
    print("making .venv", flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(command, check=False).returncode:
        raise InstallError(
            "making .venv failed, see above: install your system's venv package (Debian: "
            "python3-venv) or name another Python: make install PYTHON=python3.12"
        )


def _pip(*arguments: str) -> None:
    """Run pip of the virtual environment; its output goes to the terminal."""
    if subprocess.run([str(VENV_PYTHON), "-m", "pip", *arguments], check=False).returncode:
        raise InstallError(f"`pip {arguments[0]}` failed, see its messages above; then run again")


def _dry_run(requirement: str) -> Report | None:
    """Ask pip what a requirement would install; None if pip finds no way to install it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [str(VENV_PYTHON), "-m", "pip", "install", "-qq", "--dry-run"]
        command += ["--ignore-installed", "--report", str(path), requirement]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            return None
        report: Report = json.loads(path.read_text())
    return report


def _installed_torch() -> str | None:
    """Version of torch in the virtual environment, or None."""
    code = (
        "import importlib.metadata as m\n"
        "print(next((d.version for d in m.distributions(name='torch')), ''))"
    )
    command = [str(VENV_PYTHON), "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip() or None


def _release(version: str | None) -> str | None:
    return version.partition("+")[0] if version else None


def _install_torch(choice: str, installed: str | None) -> None:
    if choice == "none":
        if installed:
            _pip("uninstall", "--yes", "torch")
        return
    default = _dry_run(f"torch=={TORCH_RELEASE}")
    if default is None:
        raise InstallError(
            f"pip finds no torch {TORCH_RELEASE} for this Python ({sys.version.split()[0]}); "
            "check the network and pip's indexes, or install service and exporter only: "
            "make install TORCH=none"
        )
    cpu = None
    if choice == "cpu" and not is_cpu_build(default):
        cpu = _dry_run(f"torch=={TORCH_RELEASE}+cpu")
    requirement = plan_torch(choice, default, cpu)
    if requirement is None:
        raise InstallError(refusal(default))
    versions = {_name(entry): entry["metadata"]["version"] for entry in (cpu or default)["install"]}
    if versions["torch"] == installed:
        return
    print(f"installing torch {versions['torch']}", flush=True)
    dependencies = [] if choice == "cuda" else ["--no-deps"]
    _pip("install", "-qq", *dependencies, requirement)


def _install_gkc() -> None:
    """Install this checkout; its build hook compiles the library. Say with which compiler."""
    compiler = find_compiler()
    if compiler is None:
        print("no C compiler that will do, so the one of ziglang is taken", flush=True)
        _pip("install", "-qq", "--require-hashes", "-r", str(ZIG_LOCK_FILE))
        compiler = zig(str(VENV_PYTHON))
    _pip("install", "-qq", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    print(f"compiled {SOURCE.relative_to(ROOT)} with {compiler.describe()}", flush=True)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_stamp() -> dict[str, str]:
    if not STAMP.exists():
        return {}
    stamp: dict[str, str] = json.loads(STAMP.read_text())
    return stamp


def install(choice: str | None) -> None:
    """Bring ``.venv`` up to date with the lock file, torch's choice and this checkout.

    Parameters
    ----------
    choice : {"cpu", "cuda", "none"} or None
        Build of torch; None keeps what was chosen before, "cpu" the first time.

    Raises
    ------
    InstallError
        If a step fails or only a refused build of torch is at hand.
    """
    VENV.mkdir(exist_ok=True)
    with (VENV / "gkc-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = _read_stamp()
        choice = choice or stamp.get("torch", "cpu")
        wanted = {"digest": _digest(), "torch": choice, "root": str(ROOT)}
        if stamp == wanted and LIBRARY.exists():
            return
        # Commands in a virtual environment hold its path, so a moved one is made anew.
        if not VENV_PIP.exists() or stamp.get("root", str(ROOT)) != str(ROOT):
            _make_venv()
        print("installing the pinned packages", flush=True)
        _pip("install", "-qq", "--require-hashes", "-r", str(LOCK_FILE))
        installed = _installed_torch()
        is_chosen = stamp.get("torch") == choice and _release(installed) == TORCH_RELEASE
        if not is_chosen:
            _install_torch(choice, installed)
        _install_gkc()
        STAMP.write_text(json.dumps(wanted))
        print("installed: .venv/bin/gkc, .venv/bin/gkc-export, .venv/bin/keep", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, install, and return the exit status (0 done, 1 failed)."""
    parser = argparse.ArgumentParser(
        description="Make .venv with everything gkc needs.",
        epilog="Example: python3 -m requirements.install --torch none",
    )
    parser.add_argument("--torch", choices=CHOICES, help="build of torch; default: as before, cpu")
    options = parser.parse_args(arguments)
    if sys.version_info[:2] < MINIMUM_PYTHON:
        print("error: gkc needs Python 3.11 or newer: make PYTHON=python3.12", file=sys.stderr)
        return 1
    try:
        install(options.torch)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
