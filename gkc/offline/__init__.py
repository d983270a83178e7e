"""A door for training: knowledge beside the rows of tables, generations as tables.

The extra ``offline`` brings what it needs. Everything here reads the store itself, and every row is
laid by the rule that answers requests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gkc.offline.batches import join_batches
    from gkc.offline.dataset import JoinedRows

__all__ = ["JoinedRows", "join_batches"]

_MODULES: Final = {
    "JoinedRows": "gkc.offline.dataset",
    "join_batches": "gkc.offline.batches",
}
"""Where each name is: pyarrow and torch are imported by those that need them."""


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
