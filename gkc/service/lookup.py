"""Columns → knowledge: distinct ids, one read of the store per version, one array of rows.

No HTTP here. Loops run over distinct versions only; everything per row is a numpy operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from gkc.arrays import F32, I64, U8, Bools
from gkc.errors import FieldError, GenerationCorruptError, InvalidFieldsError, LayoutError
from gkc.knowledge import (
    ABSENT,
    DEFAULT,
    FOUND,
    PARTS,
    Factors,
    Part,
    Vectors,
    assemble,
    part_spans,
    product_status,
)
from gkc.service.begun import Begun
from gkc.service.grouping import distinct, distinct_pairs, find_pairs, merged_order
from gkc.service.loaded import LoadedGeneration
from gkc.service.schemas import (
    Answer,
    AnswerType,
    Array,
    Columns,
    FactoredAnswer,
    KnowledgeRequest,
    RowsAnswer,
)
from gkc.service.user_cache import UserReader
from gkc.store import ElementType, UserBlock, decode_vectors

ScalarT = TypeVar("ScalarT", np.int64, np.bool_)

ANSWER_DTYPES: Final[Mapping[AnswerType, type[np.float32] | type[np.float16]]] = {
    "f32": np.float32,
    "f16": np.float16,
}


_Items = tuple[Vectors, U8, I64, Bools]
"""K_i, its status, the item's own category, and whether it has one."""

_ROWS_OF_A_TURN: Final = 4_000
"""So many rows take less than half a millisecond in every step; with more, others get a turn
between the steps."""

_ALL_FOUND: Final[U8] = np.full(1, FOUND, dtype=np.uint8)
"""The status of vectors that were all found: one element stands for all of them."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What some rows of one version are made of; columns have an element a row, or one for all.

    Attributes
    ----------
    n : int
        How many rows.
    generation : LoadedGeneration
    block : UserBlock
        The distinct users' records.
    user, user_index, user_first, user_status
        K_u (U, D) of each, which of them the rows have (n,) or (1,), the rows in which each
        appears first (U,), and the statuses, (U,) or (1,).
    item, item_status
        K_i, (m, D), and status, (m,) or (1,), of each row or of the one item that stands for all.
    categories, has_category
        Each row's category, given or the item's own, and whether it has one.
    """

    n: int
    generation: LoadedGeneration
    block: UserBlock
    user: Vectors
    user_index: I64
    user_first: I64
    user_status: U8
    item: Vectors
    item_status: U8
    categories: I64
    has_category: Bools


class KnowledgeLookup:
    """Answers decoded requests from loaded generations.

    Parameters
    ----------
    reader : UserReader
        Where the users' records are.
    """

    def __init__(self, reader: UserReader) -> None:
        self._reader = reader
        self._reading = 0
        self._was_alone = False

    async def answer(
        self, request: KnowledgeRequest, generations: Mapping[str, LoadedGeneration]
    ) -> Answer:
        """Answer a request, all rows of a version from the one generation given for it.

        Parameters
        ----------
        request : KnowledgeRequest
        generations : mapping of str to LoadedGeneration
            One for every version of the request.

        Raises
        ------
        InvalidFieldsError
            If the versions' widths differ, or a part might not stay finite in the answer's type.
        StoreUnavailableError, GenerationNotFoundError, GenerationCorruptError
            If users' records cannot be read.
        """
        columns = request.columns
        if not columns.versions:
            return _no_rows(request)
        loaded = [generations[version] for version in columns.versions]
        _check_answerable(request, loaded)
        rows = _rows_of_versions(columns)
        fetched = await self._fetch(columns, loaded, rows)
        served = {
            version: generation.manifest.generation
            for version, generation in zip(columns.versions, loaded, strict=True)
        }
        spec = loaded[0].manifest.spec
        spans = part_spans(request.parts, spec.dim, spec.category_dim)
        if request.layout == "factored":
            factors = _merged(columns.n, [_distinct_factors(one) for one in fetched], rows)
            is_f16 = all(g.manifest.spec.element_type == "f16" for g in loaded)
            tensors = _tensors(factors, request.parts, is_f16=is_f16)
            return FactoredAnswer(served, spans, tensors, factors.status)
        await _let_others_run(columns.n)
        knowledge, status = _assembled(request, [_row_factors(one) for one in fetched], rows)
        return RowsAnswer(served, spans, knowledge, status)

    async def _fetch(
        self, columns: Columns, loaded: Sequence[LoadedGeneration], rows: Sequence[I64 | None]
    ) -> list[_Fetched]:
        """Fetch what the rows are made of, all versions at the same time."""
        if len(loaded) == 1:
            return [await self._fetch_version(columns, rows[0], loaded[0])]
        return await asyncio.gather(
            *(
                self._fetch_version(columns, own, generation)
                for own, generation in zip(rows, loaded, strict=True)
            )
        )

    async def _fetch_version(
        self, columns: Columns, rows: I64 | None, generation: LoadedGeneration
    ) -> _Fetched:
        """Fetch what these rows, which name one version, are made of."""
        n = columns.n if rows is None else len(rows)
        user_ids, user_index, user_first = distinct(_of(columns.users, rows), n)
        item_ids = _of(columns.items, rows)
        (block, is_known), items = await self._users_and_items(generation, user_ids, item_ids, n)
        item, item_status, own, has_own = items
        spec = generation.manifest.spec
        user = _decoded(block.k_u, spec.element_type, spec.dim)
        user, user_status = _with_default(user, is_known, generation.default_user)
        categories, has_category = _of(columns.categories, rows), _of(columns.has_category, rows)
        given = np.count_nonzero(has_category)
        if not given:  # the usual request names users and items only
            categories, has_category = own, has_own
        elif given < len(has_category):
            categories = np.where(has_category, categories, own)
            has_category = has_category | has_own
        return _Fetched(
            n=n,
            generation=generation,
            block=block,
            user=user,
            user_index=user_index,
            user_first=user_first,
            user_status=user_status,
            item=item,
            item_status=item_status,
            categories=categories,
            has_category=has_category,
        )

    async def _users_and_items(
        self, generation: LoadedGeneration, users: I64, items: I64, n: int
    ) -> tuple[tuple[UserBlock, Bools], _Items]:
        """Read distinct users' records, and look items up: at the same time if nobody else is here.

        Where requests overlap, the others' go on while the store reads, and items come after it:
        reads in one turn of the loop are one message to the store. Requests count as coming one at
        a time when two in a row found nobody reading (why: docs/decisions/0016-idle-waits.md).
        """
        is_alone = not self._reading
        one_at_a_time, self._was_alone = is_alone and self._was_alone, is_alone
        self._reading += 1
        try:
            reading = self._read_users(generation, users)
            if one_at_a_time:
                begun = Begun(reading)
                if not begun.is_done:
                    await asyncio.sleep(0)  # the question leaves when this turn of the loop ends
                found = _items(items, generation)
                await _let_others_run(n)
                return await begun, found
            read = await reading
            await _let_others_run(n)
            return read, _items(items, generation)
        finally:
            self._reading -= 1

    async def _read_users(
        self, generation: LoadedGeneration, users: I64
    ) -> tuple[UserBlock, Bools]:
        """Read distinct users' records; tell also which users are known, shape (U,), bool."""
        manifest = generation.manifest
        records = await self._reader.fetch_users(manifest, users) if len(users) else ()
        is_known = np.array([record is not None for record in records], dtype=np.bool_)
        try:
            block = generation.records.unpack(users, records)
        except LayoutError as exc:
            raise GenerationCorruptError(manifest.generation, str(exc)) from exc
        return block, is_known


async def _let_others_run(rows: int) -> None:
    """Give other requests their turn where this one has so many rows that they would wait long."""
    if rows > _ROWS_OF_A_TURN:
        await asyncio.sleep(0)


def _rows_of_versions(columns: Columns) -> list[I64 | None]:
    """Return each version's rows; None stands for all, where there is one version."""
    if len(columns.versions) == 1:
        return [None]
    return [np.flatnonzero(columns.version_index == k) for k in range(len(columns.versions))]


def _of(column: npt.NDArray[ScalarT], rows: I64 | None) -> npt.NDArray[ScalarT]:
    """Return a column's elements for these rows; one element goes on standing for all of them."""
    return column if rows is None or len(column) == 1 else column[rows]


def _all(mask: Bools) -> bool:
    """Tell whether all elements are true: ``mask.all()`` without numpy's Python around it."""
    return bool(np.count_nonzero(mask) == mask.size)


def _decoded(stored: U8, element_type: ElementType, width: int) -> Vectors:
    """Return stored vectors as numbers; f16 stays f16, which costs nothing."""
    if element_type == "f16":
        return stored.view("<f2")
    return decode_vectors(stored, element_type, width)


def _with_default(vectors: Vectors, is_known: Bools, default: F32 | None) -> tuple[Vectors, U8]:
    """Put the default vector, if there is one, in place of what is unknown; tell the status."""
    if _all(is_known):
        return vectors, _ALL_FOUND
    vectors = vectors.copy()
    vectors[~is_known] = 0.0 if default is None else default
    return vectors, np.where(is_known, FOUND, ABSENT if default is None else DEFAULT)


def _items(items: I64, generation: LoadedGeneration) -> _Items:
    """Return K_i and status of each item, its own category, and whether it has one.

    Every array has the length of ``items``, which is (1,) if one item stands for all rows; one
    status may stand for all.
    """
    spec = generation.manifest.spec
    places = generation.items.rows_of(items)
    is_known = places >= 0
    if _all(is_known):
        block = generation.items.take(places)
        vectors = _decoded(block.k_i, spec.element_type, spec.dim)
        return vectors, _ALL_FOUND, block.categories, block.has_category
    block = generation.items.take(places[is_known])
    known = _decoded(block.k_i, spec.element_type, spec.dim)
    vectors = np.zeros((len(items), spec.dim), dtype=known.dtype)
    category = spec.defaults.item_category
    own = np.full(len(items), category or 0, dtype=np.int64)
    has_own = np.full(len(items), category is not None)
    vectors[is_known] = known
    own[is_known], has_own[is_known] = block.categories, block.has_category
    return *_with_default(vectors, is_known, generation.default_item), own, has_own


def _row_factors(fetched: _Fetched) -> Factors:
    """Say of each row which stored pair it uses: enough for rows, without distinct pairs."""
    block, generation = fetched.block, fetched.generation
    spec = generation.manifest.spec
    stored, default = len(block.k_uc), generation.default_user_category
    vectors = _decoded(block.k_uc, spec.element_type, spec.category_dim)
    index = find_pairs(block.pair_offsets, block.categories, fetched.user_index, fetched.categories)
    is_found = (index >= 0) & fetched.has_category
    status: npt.NDArray[np.integer] = _ALL_FOUND
    if not _all(is_found):
        # Behind the stored pairs: the default one, and zeros for rows without a category.
        more = np.zeros((2, spec.category_dim), dtype=vectors.dtype)
        more[0] = 0.0 if default is None else default
        vectors = np.concatenate([vectors, more])
        index = np.where(is_found, index, np.where(fetched.has_category, stored, stored + 1))
        unknown = ABSENT if default is None else DEFAULT
        status = np.where(is_found, FOUND, np.where(fetched.has_category, unknown, ABSENT))
    return Factors(
        fetched.user,
        fetched.user_index,
        fetched.item,
        vectors,
        index,
        _status(fetched, status),
    )


@dataclass(frozen=True, slots=True)
class _DistinctFactors:
    """Factors whose pairs are distinct, in order of first appearance, and where those are."""

    factors: Factors
    user_first: I64
    pair_first: I64


def _distinct_factors(fetched: _Fetched) -> _DistinctFactors:
    """Find the distinct pairs that some rows name: what a factored answer holds."""
    n, block, generation = fetched.n, fetched.block, fetched.generation
    spec, default = generation.manifest.spec, generation.default_user_category
    user_index = np.broadcast_to(fetched.user_index, n)
    pairs = distinct_pairs(
        user_index,
        np.broadcast_to(fetched.categories, n),
        np.broadcast_to(fetched.has_category, n),
    )
    places = find_pairs(block.pair_offsets, block.categories, pairs.users, pairs.categories)
    is_found = (places >= 0) & pairs.has_category
    stored = _decoded(block.k_uc, spec.element_type, spec.category_dim)
    vectors = np.zeros((len(places), spec.category_dim), dtype=stored.dtype)
    vectors[is_found] = stored[places[is_found]]
    status = np.where(is_found, FOUND, ABSENT)
    if default is not None:
        is_default = ~is_found & pairs.has_category
        vectors[is_default], status[is_default] = default, DEFAULT
    item: Vectors = np.broadcast_to(fetched.item, (n, spec.dim))
    factors = Factors(
        fetched.user,
        user_index,
        item,
        vectors,
        pairs.index,
        _status(fetched, status[pairs.index]),
    )
    return _DistinctFactors(factors, fetched.user_first, pairs.first)


def _status(fetched: _Fetched, pair: npt.NDArray[np.integer]) -> U8:
    """Put the statuses of the parts of each row side by side, shape (n, 4)."""
    status = np.empty((fetched.n, len(PARTS)), dtype=np.uint8)
    if fetched.user_status is fetched.item_status is pair is _ALL_FOUND:
        status.fill(FOUND)
        return status
    users, items = fetched.user_status, fetched.item_status
    if len(users) > 1:
        users = users.take(fetched.user_index)
    status[:, 0], status[:, 1] = users, items
    status[:, 2], status[:, 3] = product_status(users, items), pair
    return status


def _assembled(
    request: KnowledgeRequest, factors: Sequence[Factors], rows: Sequence[I64 | None]
) -> tuple[Vectors, U8]:
    """Assemble each version's rows, and bring them into the order of the request."""
    dtype = ANSWER_DTYPES[request.dtype]
    if len(factors) == 1:
        return assemble(factors[0], request.parts, dtype), factors[0].status
    parts = [assemble(one, request.parts, dtype) for one in factors]
    knowledge = np.empty((request.columns.n, parts[0].shape[1]), dtype=dtype)
    status = np.empty((request.columns.n, len(PARTS)), dtype=np.uint8)
    for own, part, one in zip(rows, parts, factors, strict=True):
        knowledge[own], status[own] = part, one.status
    return knowledge, status


def _merged(n: int, parts: Sequence[_DistinctFactors], rows: Sequence[I64 | None]) -> Factors:
    """Bring the rows of several versions back into the order of the request."""
    factors = [part.factors for part in parts]
    if len(factors) == 1:
        return factors[0]
    of_request = [own for own in rows if own is not None]
    firsts = list(zip(of_request, parts, strict=True))
    user_order, user_rank = merged_order([own[part.user_first] for own, part in firsts])
    pair_order, pair_rank = merged_order([own[part.pair_first] for own, part in firsts])
    dtype = np.result_type(*(f.item for f in factors))
    item = np.empty((n, factors[0].item.shape[1]), dtype=dtype)
    status = np.empty((n, len(PARTS)), dtype=np.uint8)
    user_index, pair_index = (np.empty(n, dtype=np.int64) for _ in range(2))
    users = pairs = 0
    for own, found in zip(of_request, factors, strict=True):
        item[own], status[own] = found.item, found.status
        user_index[own] = user_rank[users + found.user_index]
        pair_index[own] = pair_rank[pairs + found.user_category_index]
        users += len(found.user)
        pairs += len(found.user_category)
    return Factors(
        np.concatenate([f.user for f in factors])[user_order],
        user_index,
        item,
        np.concatenate([f.user_category for f in factors])[pair_order],
        pair_index,
        status,
    )


def _check_answerable(request: KnowledgeRequest, loaded: Sequence[LoadedGeneration]) -> None:
    """Refuse versions of unequal widths, and parts that might not stay finite as answered."""
    specs = [generation.manifest.spec for generation in loaded]
    if len(specs) > 1 and len({(spec.dim, spec.category_dim) for spec in specs}) > 1:
        told = ", ".join(f"{s.version}: {s.dim} and {s.category_dim}" for s in specs)
        raise InvalidFieldsError(
            FieldError("/v", f"names versions of unequal widths (D and D_c: {told})")
        )
    if request.layout == "rows":
        for generation in loaded:
            _check_finite(request, generation)


def _check_finite(request: KnowledgeRequest, generation: LoadedGeneration) -> None:
    """Refuse parts whose largest values may overflow the type of the answer."""
    overflowing = generation.overflowing[request.dtype]
    if not overflowing:
        return
    for part in request.parts:
        if part in overflowing:
            raise InvalidFieldsError(
                FieldError(
                    "/dtype",
                    f"{request.dtype} may overflow: {part} of version "
                    f"{generation.manifest.spec.version!r} goes up to {overflowing[part]:.6g}; "
                    "ask for f32, or leave that part out",
                )
            )


def _tensors(factors: Factors, parts: Sequence[Part], *, is_f16: bool) -> dict[str, Array]:
    """Return the tensors from which a client computes these parts of every row."""
    stored = np.float16 if is_f16 else np.float32
    tensors: dict[str, Array] = {}
    if "user" in parts or "user_item" in parts:
        tensors["user"] = np.ascontiguousarray(factors.user, dtype=stored)
        tensors["user_index"] = factors.user_index.astype(np.int32)
    if "item" in parts or "user_item" in parts:
        tensors["item"] = np.ascontiguousarray(factors.item, dtype=stored)
    if "user_category" in parts:
        tensors["user_category"] = np.ascontiguousarray(factors.user_category, dtype=stored)
        tensors["user_category_index"] = factors.user_category_index.astype(np.int32)
    return tensors


def _no_rows(request: KnowledgeRequest) -> Answer:
    """Answer a request without rows that names no version: nothing is known of widths."""
    knowledge = np.zeros((0, 0), np.float16 if request.dtype == "f16" else np.float32)
    status = np.zeros((0, len(PARTS)), dtype=np.uint8)
    if request.layout == "rows":
        return RowsAnswer({}, {}, knowledge, status)
    empty = np.zeros((0, 0), dtype=np.float32)
    index = np.zeros(0, dtype=np.int64)
    factors = Factors(empty, index, empty, empty, index, status)
    return FactoredAnswer({}, {}, _tensors(factors, request.parts, is_f16=True), status)
