"""Columns → knowledge: distinct ids, one read of the store per version, one array of rows.

No HTTP here. Loops run over distinct versions only; everything per row is a numpy operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gkc.errors import FieldError, GenerationCorruptError, InvalidFieldsError, LayoutError
from gkc.knowledge import (
    ABSENT,
    DEFAULT,
    F32,
    FOUND,
    I64,
    PARTS,
    U8,
    Factors,
    Part,
    assemble,
    part_spans,
    product_status,
)
from gkc.service.grouping import distinct, distinct_pairs, find_pairs, merged_order
from gkc.service.loaded import LoadedGeneration
from gkc.service.schemas import (
    Answer,
    Array,
    Bools,
    Columns,
    FactoredAnswer,
    KnowledgeRequest,
    RowsAnswer,
)
from gkc.store import GenerationManifest, KnowledgeReader, UserBlock, decode_vectors, unpack_records

ScalarT = TypeVar("ScalarT", np.int64, np.bool_)


@dataclass(frozen=True, slots=True)
class _VersionRows:
    """The rows of one version, fetched.

    Attributes
    ----------
    rows : ndarray, shape (m,), int64
        Which rows of the request they are.
    factors : Factors
        What these m rows are made of.
    user_first, pair_first : ndarray, shape (U,) and (P,), int64
        The request's row in which each distinct user and pair appears first.
    """

    rows: I64
    factors: Factors
    user_first: I64
    pair_first: I64


class KnowledgeLookup:
    """Answers decoded requests from loaded generations.

    Parameters
    ----------
    reader : KnowledgeReader
        Where the users' records are.
    """

    def __init__(self, reader: KnowledgeReader) -> None:
        self._reader = reader

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
        factors = await self._fetch(columns, loaded)
        names = zip(columns.versions, loaded, strict=True)
        served = {version: generation.manifest.generation for version, generation in names}
        spec = loaded[0].manifest.spec
        spans = part_spans(request.parts, spec.dim, spec.category_dim)
        if request.layout == "factored":
            is_f16 = all(g.manifest.spec.element_type == "f16" for g in loaded)
            tensors = _tensors(factors, request.parts, is_f16=is_f16)
            return FactoredAnswer(served, spans, tensors, factors.status)
        rows = assemble(factors, request.parts)
        knowledge = rows.astype(np.float16) if request.dtype == "f16" else rows
        return RowsAnswer(served, spans, knowledge, factors.status)

    async def _fetch(self, columns: Columns, loaded: Sequence[LoadedGeneration]) -> Factors:
        """Fetch what the rows are made of, all versions at the same time."""
        if len(loaded) == 1:
            rows = np.arange(columns.n, dtype=np.int64)
            return (await self._fetch_version(columns, rows, loaded[0])).factors
        fetched = await asyncio.gather(
            *(
                self._fetch_version(columns, np.flatnonzero(columns.version_index == k), generation)
                for k, generation in enumerate(loaded)
            )
        )
        return _merge(columns.n, fetched)

    async def _fetch_version(
        self, columns: Columns, rows: I64, generation: LoadedGeneration
    ) -> _VersionRows:
        """Fetch what these rows, which name one version, are made of."""
        user_ids, user_index, user_first = distinct(_of(columns.users, rows), len(rows))
        block, is_known = await self._read_users(generation.manifest, user_ids)
        user, user_status = _users(block, is_known, generation)

        item, item_status, own, has_own = _items(_of(columns.items, rows), generation)
        is_given = _of(columns.has_category, rows)
        categories = np.where(is_given, _of(columns.categories, rows), own)
        pairs = distinct_pairs(
            user_index,
            np.broadcast_to(categories, len(rows)),
            np.broadcast_to(is_given | has_own, len(rows)),
        )
        places = find_pairs(block.pair_offsets, block.categories, pairs.users, pairs.categories)
        user_category, pair_status = _user_categories(block, places, pairs.has_category, generation)

        status = np.empty((len(rows), len(PARTS)), dtype=np.uint8)
        status[:, 0] = user_status[user_index]
        status[:, 1] = item_status
        status[:, 2] = product_status(status[:, 0], status[:, 1])
        status[:, 3] = pair_status[pairs.index]
        item = np.broadcast_to(item, (len(rows), item.shape[1]))
        factors = Factors(user, user_index, item, user_category, pairs.index, status)
        return _VersionRows(rows, factors, rows[user_first], rows[pairs.first])

    async def _read_users(
        self, manifest: GenerationManifest, users: I64
    ) -> tuple[UserBlock, Bools]:
        """Read distinct users' records; tell also which users are known, shape (U,), bool."""
        records = await self._reader.fetch_users(manifest, users) if len(users) else ()
        is_known = np.fromiter((r is not None for r in records), np.bool_, count=len(records))
        spec = manifest.spec
        try:
            block = unpack_records(users, records, spec.element_type, spec.dim, spec.category_dim)
        except LayoutError as exc:
            raise GenerationCorruptError(manifest.generation, str(exc)) from exc
        return block, is_known


def _of(column: npt.NDArray[ScalarT], rows: I64) -> npt.NDArray[ScalarT]:
    """Return a column's elements for these rows; one element goes on standing for all of them."""
    return column if len(column) == 1 and len(rows) else column[rows]


def _users(block: UserBlock, is_known: Bools, generation: LoadedGeneration) -> tuple[F32, U8]:
    """Return K_u and status of each distinct user, shape (U, D) and (U,)."""
    spec = generation.manifest.spec
    vectors = decode_vectors(block.k_u, spec.element_type, spec.dim)
    return vectors, _fill_unknown(vectors, is_known, generation.default_user)


def _items(items: I64, generation: LoadedGeneration) -> tuple[F32, U8, I64, Bools]:
    """Return K_i and status of each item, its own category, and whether it has one.

    Every array has the length of ``items``, which is (1,) if one item stands for all rows.
    """
    spec = generation.manifest.spec
    places = generation.items.rows_of(items)
    is_known = places >= 0
    block = generation.items.take(places if is_known.all() else places[is_known])
    known = decode_vectors(block.k_i, spec.element_type, spec.dim)
    if is_known.all():
        status = np.full(len(items), FOUND, dtype=np.uint8)
        return known, status, block.categories, block.has_category
    category = spec.defaults.item_category
    vectors = np.zeros((len(items), spec.dim), dtype=np.float32)
    own = np.full(len(items), category or 0, dtype=np.int64)
    has_own = np.full(len(items), category is not None)
    vectors[is_known], own[is_known], has_own[is_known] = (
        known,
        block.categories,
        block.has_category,
    )
    return vectors, _fill_unknown(vectors, is_known, generation.default_item), own, has_own


def _user_categories(
    block: UserBlock, places: I64, has_category: Bools, generation: LoadedGeneration
) -> tuple[F32, U8]:
    """Return K_uc and status of each distinct pair, shape (P, D_c) and (P,).

    ``places`` says where in ``block`` each pair is, -1 where it was not exported; a pair without a
    category is absent.
    """
    spec = generation.manifest.spec
    is_known = (places >= 0) & has_category
    vectors = np.zeros((len(places), spec.category_dim), dtype=np.float32)
    vectors[is_known] = decode_vectors(
        block.k_uc[places[is_known]], spec.element_type, spec.category_dim
    )
    status = _fill_unknown(vectors, is_known, generation.default_user_category)
    vectors[~has_category] = 0.0
    status[~has_category] = ABSENT
    return vectors, status


def _fill_unknown(vectors: F32, is_known: Bools, default: F32 | None) -> U8:
    """Put the default vector, if there is one, in place of what is unknown; return the status."""
    status = np.full(len(vectors), FOUND, dtype=np.uint8)
    status[~is_known] = ABSENT if default is None else DEFAULT
    if default is not None:
        vectors[~is_known] = default
    return status


def _merge(n: int, fetched: Sequence[_VersionRows]) -> Factors:
    """Bring the rows of several versions back into the order of the request."""
    factors = [part.factors for part in fetched]
    user_order, user_rank = merged_order([part.user_first for part in fetched])
    pair_order, pair_rank = merged_order([part.pair_first for part in fetched])
    item = np.empty((n, factors[0].item.shape[1]), dtype=np.float32)
    status = np.empty((n, len(PARTS)), dtype=np.uint8)
    user_index, pair_index = (np.empty(n, dtype=np.int64) for _ in range(2))
    users = pairs = 0
    for part in fetched:
        rows, found = part.rows, part.factors
        item[rows], status[rows] = found.item, found.status
        user_index[rows] = user_rank[users + found.user_index]
        pair_index[rows] = pair_rank[pairs + found.user_category_index]
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
    if len({(spec.dim, spec.category_dim) for spec in specs}) > 1:
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
        tensors["user"] = factors.user.astype(stored)
        tensors["user_index"] = factors.user_index.astype(np.int32)
    if "item" in parts or "user_item" in parts:
        tensors["item"] = np.ascontiguousarray(factors.item, dtype=stored)
    if "user_category" in parts:
        tensors["user_category"] = factors.user_category.astype(stored)
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
