"""Reading what ``torch.save`` wrote, without running any code that a file may hold."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch

DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError, BadZipFile)
"""What reading a short, missing or foreign file raises, with ``load_weights`` or NumPy."""


def load_weights(file: Path) -> Any:  # noqa: ANN401 - what was saved
    """Read tensors, and the plain values around them.

    Raises
    ------
    ValueError
        If the file holds anything else: reading that could run code. In place of torch's own
        message, which advises to allow it.
    OSError, RuntimeError
        If the file is missing or cut short, or others of ``DAMAGE``.
    """
    try:
        return torch.load(file, weights_only=True)
    except UnpicklingError:
        problem = f"{file.name} holds other things than tensors and plain values, and is not read"
        raise ValueError(f"{problem}: it could run code") from None
