"""The general knowledge center: a store of versioned KEEP knowledge and the service on top of it.

Importing this package imports nothing else, so ``import gkc.knowledge`` stays cheap for training
code that only needs the row layout; ``Client`` and ``AsyncClient`` are imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gkc.client import AsyncClient as AsyncClient
    from gkc.client import Client as Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Return one of the clients."""
    if name not in {"AsyncClient", "Client"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gkc import client

    return getattr(client, name)
