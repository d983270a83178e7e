"""How many functions one warm request passes, without sockets: 500 rows, `file:`, safetensors f16.

    python -m bench.calls [CHECKOUT]

CHECKOUT is the root of another checkout.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.checkouts import HERE, Checkout
from bench.core import F16, ROWS_COUNTED, WARM, answering
from bench.processes import separate_cores
from bench.world import Shape, questions

SHAPE = Shape(users=5_000, items=50_000)


def main() -> None:
    """Count, here or in another checkout, and print."""
    checkout = Checkout(Path(sys.argv[1]).resolve()).check() if sys.argv[1:] else HERE
    own, _ = separate_cores()
    drawn = questions(SHAPE, ROWS_COUNTED, WARM + 1, seed=0)
    bodies = [{**body, **F16} for body in drawn]
    with (
        tempfile.TemporaryDirectory() as scratch,
        answering(checkout, Path(scratch), own, SHAPE) as one,
    ):
        found = one.ask({"measure": "calls", "bodies": bodies})
    passed = sum(count for _, count in found["ours"])
    print(f"{passed} calls in gkc ({len(found['ours'])} functions), {found['others']} in libraries")
    for name, count in found["ours"]:
        print(f"{count:5} {name}")


if __name__ == "__main__":
    main()
