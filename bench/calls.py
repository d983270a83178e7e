"""How many functions one warm request passes, without sockets: 500 rows, `file:`, safetensors f16.

    python -m bench.calls [CHECKOUT]

CHECKOUT is the root of another checkout.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.checkouts import HERE, Checkout
from bench.core import ROWS_COUNTED, WARM, answering, measured
from bench.processes import separate_cores
from bench.world import Shape, questions

SHAPE = Shape(users=5_000, items=50_000)


def main() -> None:
    """Count, here or in another checkout, and print."""
    checkout = Checkout(Path(sys.argv[1]).resolve()).check() if sys.argv[1:] else HERE
    cores, _ = separate_cores()
    bodies = questions(SHAPE, ROWS_COUNTED, WARM + 1, seed=0, dtype="f16")
    with (
        tempfile.TemporaryDirectory() as scratch,
        answering(checkout, Path(scratch), cores, SHAPE) as process,
    ):
        passed = measured(process, {"measure": "calls", "bodies": bodies})
    ours, others = passed["ours"], passed["others"]
    total = sum(count for _, count in ours)
    print(f"{total} calls in gkc ({len(ours)} functions), {others} in libraries")
    for name, count in ours:
        print(f"{count:5} {name}")


if __name__ == "__main__":
    main()
