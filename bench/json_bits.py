"""Count the float32 values whose JSON number, read as a double and cast back, is another float32.

The service writes float32 arrays with orjson, which prints the shortest decimal that identifies a
float32. A client reads that decimal as a double and casts it: two roundings, which could disagree
with one. This walks through every finite positive float32 (the sign is a prefix), or a slice.

    python -m bench.json_bits [--start 0] [--stop 2139095040]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import orjson

FIRST_NOT_FINITE = 0x7F800000
CHUNK = 1 << 20


def count_changed(start: int, stop: int) -> int:
    """Return how many float32 with bit patterns in [start, stop) change their bits through JSON."""
    changed = 0
    for low in range(start, stop, CHUNK):
        bits = np.arange(low, min(low + CHUNK, stop), dtype=np.uint32)
        text = orjson.dumps(bits.view(np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
        back = np.array(orjson.loads(text), dtype=np.float64).astype(np.float32).view(np.uint32)
        wrong = bits[back != bits]
        for pattern in wrong[:3]:
            print(f"bits 0x{pattern:08x} do not survive")
        changed += len(wrong)
    return changed


def main() -> None:
    """Parse the command line, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--stop", type=int, default=FIRST_NOT_FINITE)
    args = parser.parse_args()
    began = time.perf_counter()
    changed = count_changed(args.start, args.stop)
    seconds = time.perf_counter() - began
    count = args.stop - args.start
    print(f"{count} values, {changed} changed, {seconds:.0f} s, orjson {orjson.__version__}")


if __name__ == "__main__":
    main()
