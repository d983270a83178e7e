"""What both sides of ``bench.feast`` know: Feast's views, in its environment and in ours."""

from __future__ import annotations

from typing import Final

KINDS: Final = {
    "user": (("user_id",), "k_u"),
    "item": (("item_id",), "k_i"),
    "user_category": (("user_id", "category_id"), "k_uc"),
}
"""Feature views: keys, and the one feature, a vector. In the order of a row's parts."""
