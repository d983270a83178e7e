"""Knowledge for whoever calls: the same interface wherever it comes from."""

from __future__ import annotations

from gkc.client.client import AsyncClient, Client
from gkc.client.knowledge import Knowledge
from gkc.client.options import AttemptReport

__all__ = ["AsyncClient", "AttemptReport", "Client", "Knowledge"]
