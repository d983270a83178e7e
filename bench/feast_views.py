"""What both sides of ``bench.feast`` know: its feature views, and what Feast is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FORMS = ("bytes", "floats")
"""How a vector is kept as a feature: the bytes of its float16, or ``Array(Float32)``."""


@dataclass(frozen=True)
class Kind:
    """Vectors of one kind of key; a feature view in each form."""

    name: str
    keys: tuple[str, ...]
    feature: str

    def view(self, form: str) -> str:
        """Return the name of the feature view in a form."""
        return f"{self.name}_{form}"


KINDS = (
    Kind("user", ("user_id",), "k_u"),
    Kind("item", ("item_id",), "k_i"),
    Kind("user_category", ("user_id", "category_id"), "k_uc"),
)
"""In the order of a row's parts; their product is the caller's to compute."""


def feast_question(
    user: int, items: Sequence[int], categories: Sequence[int], form: str
) -> dict[str, Any]:
    """Ask for the vectors of one user by many items.

    Parameters
    ----------
    user : int
        Id.
    items, categories : sequence of int
        Ids, one of each a row: Feast looks no category up.
    form : str
        Of ``FORMS``.

    Returns
    -------
    dict
        Body of ``POST /get-online-features``. Feast reads each distinct key once.
    """
    return {
        "features": [f"{kind.view(form)}:{kind.feature}" for kind in KINDS],
        "entities": {
            "user_id": [user] * len(items),
            "item_id": list(items),
            "category_id": list(categories),
        },
    }
