"""A file that runs code when it is read without care."""

from __future__ import annotations

import os
from pathlib import Path

import torch


class Hostile:
    """What leaves a directory of a name when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.made),)


def save_hostile(file: Path) -> None:
    """Save weights with code among them, which makes the directory ``ran`` beside the file."""
    torch.save({"weights": torch.zeros(2), "more": Hostile(file.with_name("ran"))}, file)
