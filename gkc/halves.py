"""Products of float16 rows: numpy's, or a compiled loop that equals numpy's in every bit.

numpy converts halves one after the other in software; processors convert eight at once. Where
numba is installed (the extra ``fast``), `accelerate` compiles such a loop and compares it with
numpy; only if both agree for every half does it take numpy's place.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.floating[Any]]
"""float16."""
Multiply = Callable[[Halves, Halves, Halves], object]

_SPECIAL: Final = (0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 0.1, -0.1, 1.0, -1.0, 3.0, 65504.0, np.inf)
"""Besides random halves: zeros, the least subnormal and normal ones, and what overflows."""
_RANDOM: Final = 20


def _by_numpy(user: Halves, item: Halves, out: Halves) -> None:
    np.multiply(user, item, out=out)  # in float32, and rounded once


_multiply: Multiply = _by_numpy


def multiply(user: Halves, item: Halves, out: Halves) -> None:
    """Write ``user * item`` into ``out``, computed in float32 and rounded once.

    Parameters
    ----------
    user, item : ndarray, shape (n, D) or (1, D), float16
        One row stands for all.
    out : ndarray, shape (n, D), float16
        May be columns of wider rows.
    """
    _multiply(user, item, out)


def accelerate() -> str:
    """Compile the loop, try it, and use it from now on in this process; takes about a second.

    Returns
    -------
    str
        Empty if it is used, else why not: numpy goes on multiplying.
    """
    global _multiply
    try:
        compiled = _compile()
    except ImportError as exc:
        return f"numba is not installed (pip install 'gkc[fast]'): {exc}"
    except Exception as exc:  # noqa: BLE001  # whatever a compiler raises, numpy is there
        return f"numba cannot compile the loop: {exc}"
    if not equals_numpy(compiled):
        return "the compiled loop does not equal numpy's on this processor"
    _multiply = compiled
    return ""


def equals_numpy(multiply: Multiply) -> bool:
    """Tell whether a multiplication gives numpy's bits for every half times many, in any shape.

    Parameters
    ----------
    multiply : callable
        Like the function `multiply`.
    """
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    random = np.random.default_rng(0).choice(every, _RANDOM)
    users = np.concatenate([np.array(_SPECIAL, dtype=np.float16), random])[:, np.newaxis]
    wide = np.empty((len(users), len(every) + 2), dtype=np.float16)  # the columns around stay
    with np.errstate(all="ignore"):
        for user, item in (
            (np.repeat(users, len(every), axis=1), every[np.newaxis]),
            (np.repeat(users[:1], len(every), axis=1), np.repeat(every[np.newaxis], 2, axis=0)),
            (np.repeat(users[:2], len(every), axis=1), np.repeat(every[np.newaxis], 2, axis=0)),
        ):
            out = wide[: max(len(user), len(item)), 1:-1]
            wide.fill(np.nan)
            multiply(user, item, out)
            expected = user * item
            same = (out.view(np.uint16) == expected.view(np.uint16)) | np.isnan(expected)
            around = np.isnan(wide[:, [0, -1]])
            if not same.all() or not around.all():
                return False
    return True


def _compile() -> Multiply:
    """Compile a loop over rows whose conversions are the processor's own."""
    numba: Any = import_module("numba")
    ir: Any = import_module("llvmlite.ir")

    def half_product(_: Any, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Tell numba how two halves, each as its 16 bits, are multiplied."""

        def generate(_: Any, builder: Any, __: Any, bits: Any) -> Any:  # noqa: ANN401
            half, single = ir.HalfType(), ir.FloatType()
            a, b = (builder.fpext(builder.bitcast(one, half), single) for one in bits)
            rounded = builder.fptrunc(builder.fmul(a, b), half)
            return builder.bitcast(rounded, ir.IntType(16))

        return numba.uint16(left, right), generate

    times = numba.extending.intrinsic(half_product)

    def rows(user: Any, item: Any, out: Any) -> None:  # noqa: ANN401
        for n in range(out.shape[0]):
            u = user[n if len(user) > 1 else 0]
            i = item[n if len(item) > 1 else 0]
            o = out[n]
            for d in range(out.shape[1]):
                o[d] = times(u[d], i[d])

    given = numba.types.Array(numba.uint16, 2, "C", readonly=True)
    compiled = numba.njit(numba.void(given, given, numba.uint16[:, :]))(rows)

    def multiply(user: Halves, item: Halves, out: Halves) -> None:
        bits = (np.ascontiguousarray(rows).view(np.uint16) for rows in (user, item))
        compiled(*bits, out.view(np.uint16))

    return multiply
