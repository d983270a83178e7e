"""Loops over rows, ids and pairs that numba compiles: optional, each equal to numpy's in every bit.

numpy needs a pass over the data for every operation, and converts halves one after the other in
software; one compiled loop looks an id up, or lays a whole row, in a single pass. Where a loop is
called, numpy's way stands beside it and is taken without numba (the extra ``fast``).
`gkc.service.acceleration` compiles the loops at start and compares both ways before they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64, U8, U16, U32, Bools

Halves = npt.NDArray[np.floating[Any]]
"""float16."""

_AHEAD: Final = 256
"""So many ids are looked up at a time: what they touch stays in the core's nearest cache."""

NOT_LAID: Final = -1
"""The first column of a part that an answer does not have."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled loops.

    Attributes
    ----------
    find_rows : callable
        ``(ids, starts, stored, count, shift, rows)``: write the row of each id into ``rows``, -1
        for an unknown one; false if ``starts`` points outside. Arrays as in `gkc.store.table`.
    take_rows : callable
        ``(rows, ids, stored, categories, has_category, id, k_i, category, has)``: copy these rows
        of the first four into the last four; false if one of them is outside.
    first_appearances : callable
        ``(values, seed, slots, first, index)``: write into ``first`` the rows in which a value
        appears first, ascending, and into ``index`` for each row which of them it has; return how
        many there are. ``slots`` holds -1 only, twice as many as there are values or more, a power
        of two; ``seed`` is a number that nobody outside knows.
    find_pairs : callable
        ``(offsets, stored, users, categories, places)``: what `gkc.service.grouping.find_pairs`
        returns, into ``places``.
    lay_rows : callable
        ``(user, user_index, item, pair, pair_index, columns, out)``: write K_u, K_i, K_u * K_i and
        K_uc of each row into ``out``, float16 or float32, from the column on that ``columns`` says
        of each part, or nowhere if that is `NOT_LAID`. Vectors are float16; of ``user_index``,
        ``item`` and ``pair_index`` one element may stand for all rows.
    """

    find_rows: Callable[[I64, U32, I64, int, np.uint64, I64], bool]
    take_rows: Callable[[I64, I64, U8, I64, U8, I64, U8, I64, Bools], bool]
    first_appearances: Callable[[I64, np.uint64, I64, I64, I64], int]
    find_pairs: Callable[[I64, I64, I64, I64, I64], None]
    lay_rows: Callable[[Halves, I64, Halves, Halves, I64, I64, npt.NDArray[Any]], None]


_in_use: Kernels | None = None


def kernels() -> Kernels | None:
    """Return the loops to use in this process; None if numpy does everything."""
    return _in_use


def use(these: Kernels | None) -> None:
    """Use these loops in this process from now on, or none."""
    global _in_use
    _in_use = these


def compile_kernels() -> Kernels:
    """Compile the loops; takes about a second.

    Raises
    ------
    ImportError
        If numba is not installed.
    """
    numba: Any = import_module("numba")
    types = numba.types
    to_single, to_half = _conversions(numba)
    hash_of, prefetch = numba.njit(_hash), _prefetch(numba)

    def given(dtype: Any, ndim: int) -> Any:  # noqa: ANN401
        return types.Array(dtype, ndim, "C", readonly=True)

    def compiled(result: Any, parameters: list[Any], loop: Callable[..., Any]) -> Any:  # noqa: ANN401
        return numba.njit(result(*parameters))(loop)

    ids, bits = given(types.int64, 1), given(types.uint16, 2)
    found, index = types.int64[::1], types.int64
    find_rows = compiled(
        types.boolean,
        [ids, given(types.uint32, 1), ids, index, types.uint64, found],
        _find_rows(hash_of, prefetch),
    )
    row_bytes, flags = given(types.uint8, 2), given(types.uint8, 1)
    take_rows = compiled(
        types.boolean,
        [ids, ids, row_bytes, ids, flags, found, types.uint8[:, ::1], found, types.boolean[::1]],
        _take_rows,
    )
    first_appearances = compiled(
        index, [ids, types.uint64, found, found, found], _first_appearances(hash_of)
    )
    find_pairs = compiled(types.void, [ids, ids, ids, ids, found], _find_pairs)

    sources = [bits, ids, bits, bits, ids, ids]
    lay_halves = compiled(
        types.void,
        [*sources, types.uint16[:, ::1]],
        _lay_rows(
            numba.njit(lambda half: half),
            numba.njit(lambda user, item: to_half(to_single(user) * to_single(item))),
        ),
    )
    lay_singles = compiled(
        types.void,
        [*sources, types.float32[:, ::1]],
        _lay_rows(to_single, numba.njit(lambda user, item: to_single(user) * to_single(item))),
    )

    def lay_rows(
        user: Halves,
        user_index: I64,
        item: Halves,
        pair: Halves,
        pair_index: I64,
        columns: I64,
        out: npt.NDArray[Any],
    ) -> None:
        lay, rows = (lay_halves, out.view(np.uint16)) if out.itemsize == 2 else (lay_singles, out)
        lay(_bits(user), _plain(user_index), _bits(item), _bits(pair), pair_index, columns, rows)

    def rows_of(
        ids: I64, starts: U32, stored: I64, count: int, shift: np.uint64, rows: I64
    ) -> bool:
        return bool(find_rows(_plain(ids), starts, stored, count, shift, rows))

    def firsts_of(values: I64, seed: np.uint64, slots: I64, first: I64, index: I64) -> int:
        return int(first_appearances(_plain(values), seed, slots, first, index))

    def pairs_of(offsets: I64, stored: I64, users: I64, categories: I64, places: I64) -> None:
        find_pairs(offsets, _plain(stored), _plain(users), _plain(categories), places)

    return Kernels(rows_of, take_rows, firsts_of, pairs_of, lay_rows)


def _bits(halves: Halves) -> U16:
    return _plain(halves.view(np.uint16))


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array as compiled code takes it: contiguous, and at a multiple of its item size.

    A record within a file may begin anywhere.
    """
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def _conversions(numba: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return functions for compiled code: a half's bits → its float32; a float32 → a half's bits.

    The processor converts, eight at once where it can (F16C), and rounds to the nearest even.
    """
    ir: Any = import_module("llvmlite.ir")
    half, single, integer = ir.HalfType(), ir.FloatType(), ir.IntType(16)

    def to_single(_: Any, bits: Any) -> Any:  # noqa: ANN401
        """Tell numba how the 16 bits of a half become a float32."""

        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
            return builder.fpext(builder.bitcast(args[0], half), single)

        return numba.float32(bits), generate

    def to_half(_: Any, number: Any) -> Any:  # noqa: ANN401
        """Tell numba how a float32 becomes the 16 bits of a half."""

        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
            return builder.bitcast(builder.fptrunc(args[0], half), integer)

        return numba.uint16(number), generate

    intrinsic = numba.extending.intrinsic
    return intrinsic(to_single), intrinsic(to_half)


def _prefetch(numba: Any) -> Any:  # noqa: ANN401
    """Return a function for compiled code: ``(array, element)``: begin to read it into the cache.

    It may lie anywhere, outside the array too: nothing is read that is not there.
    """
    ir: Any = import_module("llvmlite.ir")
    pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
    to_read, for_long, data = integer(0), integer(3), integer(1)

    def prefetch(_: Any, array: Any, element: Any) -> Any:  # noqa: ANN401
        """Tell numba how."""

        def generate(context: Any, builder: Any, given: Any, args: Any) -> Any:  # noqa: ANN401
            elements = context.make_array(given.args[0])(context, builder, args[0]).data
            place = builder.bitcast(builder.gep(elements, [args[1]]), pointer)
            how = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature)
            builder.call(how, [place, to_read, for_long, data])
            return context.get_dummy_value()

        return numba.void(array, element), generate

    return numba.extending.intrinsic(prefetch)


# What follows is compiled, and never runs as Python.


def _hash(number: np.int64) -> np.uint64:
    """As `gkc.store.protocol.hash_ids`."""
    h = np.uint64(number)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _find_rows(
    hash_of: Callable[[Any], np.uint64], prefetch: Callable[[npt.NDArray[Any], Any], None]
) -> Callable[..., bool]:
    """Return the loop that finds rows.

    An id takes two reads from anywhere in memory, one after the other; in passes, many ids' reads
    are under way at a time.
    """

    def find(ids: I64, starts: U32, stored: I64, count: int, shift: np.uint64, rows: I64) -> bool:
        for begin in range(0, len(ids), _AHEAD):
            end = min(begin + _AHEAD, len(ids))
            for k in range(begin, end):
                bucket = np.int64(hash_of(ids[k]) >> shift)
                if bucket + 1 >= len(starts):
                    return False
                prefetch(starts, bucket)
                rows[k] = bucket
            for k in range(begin, end):
                prefetch(stored, np.int64(starts[rows[k]]))
            for k in range(begin, end):
                first, last = np.int64(starts[rows[k]]), np.int64(starts[rows[k] + 1])
                if last > count:
                    return False
                rows[k] = -1
                for row in range(first, last):
                    if stored[row] == ids[k]:
                        rows[k] = row
                        break
        return True

    return find


def _take_rows(
    rows: I64,
    ids: I64,
    stored: U8,
    categories: I64,
    has_category: U8,
    own: I64,
    k_i: U8,
    category: I64,
    has: Bools,
) -> bool:
    for k in range(len(rows)):
        row = rows[k]
        if row < 0 or row >= len(stored):
            return False
        own[k] = ids[row]
        for byte in range(stored.shape[1]):
            k_i[k, byte] = stored[row, byte]
        category[k] = categories[row]
        has[k] = has_category[row] != 0
    return True


def _first_appearances(hash_of: Callable[[Any], np.uint64]) -> Callable[..., int]:
    """Return the loop that tells values apart: by a table, at most half full, of what was seen."""

    def tell_apart(values: I64, seed: np.uint64, slots: I64, first: I64, index: I64) -> int:
        mask = np.uint64(len(slots) - 1)
        count = 0
        for k in range(len(values)):
            slot = hash_of(np.int64(np.uint64(values[k]) ^ seed)) & mask
            while slots[slot] >= 0 and values[first[slots[slot]]] != values[k]:
                slot = (slot + np.uint64(1)) & mask
            if slots[slot] < 0:
                slots[slot] = count
                first[count] = k
                count += 1
            index[k] = slots[slot]
        return count

    return tell_apart


def _find_pairs(offsets: I64, stored: I64, users: I64, categories: I64, places: I64) -> None:
    for k in range(len(places)):
        user = users[k if len(users) > 1 else 0]
        wanted = categories[k if len(categories) > 1 else 0]
        low, end = offsets[user], offsets[user + 1]
        high = end
        while low < high:
            middle = (low + high) // 2
            if stored[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        places[k] = low if low < end and stored[low] == wanted else -1


def _lay_rows(copied: Callable[..., Any], product: Callable[..., Any]) -> Callable[..., None]:
    """Return the loop that lays rows, elements written as ``copied`` and ``product`` say."""

    def lay(
        user: U16,
        user_index: I64,
        item: U16,
        pair: U16,
        pair_index: I64,
        columns: I64,
        out: npt.NDArray[Any],
    ) -> None:
        width, category_width = user.shape[1], pair.shape[1]
        at_user, at_item, at_product, at_pair = columns[0], columns[1], columns[2], columns[3]
        for n in range(out.shape[0]):
            u = user_index[n if len(user_index) > 1 else 0]
            i = n if len(item) > 1 else 0
            p = pair_index[n if len(pair_index) > 1 else 0]
            if at_user >= 0:
                for d in range(width):
                    out[n, at_user + d] = copied(user[u, d])
            if at_item >= 0:
                for d in range(width):
                    out[n, at_item + d] = copied(item[i, d])
            if at_product >= 0:
                for d in range(width):
                    out[n, at_product + d] = product(user[u, d], item[i, d])
            if at_pair >= 0:
                for d in range(category_width):
                    out[n, at_pair + d] = copied(pair[p, d])

    return lay
