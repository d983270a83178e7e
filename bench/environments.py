"""Environments beside ``.venv`` for what must not share the service's packages."""

from __future__ import annotations

import hashlib
import subprocess
import venv
from pathlib import Path

from bench.checkouts import ROOT

STAMP = "gkc-installed"


def separate_environment(name: str, *without_hashes: str) -> Path:
    """Make the environment ``.venv-NAME`` from ``requirements/NAME.txt``, if it is not there yet.

    Parameters
    ----------
    name : str
        Of the environment and of its file of pinned packages.
    *without_hashes : str
        Requirements to install after those, without what they need: torch, which has many builds.

    Returns
    -------
    Path
        Its directory of commands.
    """
    place = ROOT / f".venv-{name}"
    pinned = ROOT / "requirements" / f"{name}.txt"
    wanted = hashlib.sha256(pinned.read_bytes() + repr(without_hashes).encode()).hexdigest()
    stamp = place / STAMP
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {pinned.name} into {place.name} (once)", flush=True)
        venv.create(place, with_pip=True, clear=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip.append("--no-deps")  # the file is complete
        subprocess.run([*pip, "--require-hashes", "-r", str(pinned)], check=True)
        if without_hashes:
            subprocess.run([*pip, *without_hashes], check=True)
        stamp.write_text(wanted)
    return place / "bin"
