"""Through the models into a staged generation: prepare, infer, encode and write, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from exporter.batches import ItemBatch, UserBatch, item_batches, user_batches
from exporter.manifest import ModelKind
from exporter.prepare import Prepared
from exporter.sample import Sample
from exporter.stages import Ahead
from exporter.vectors import encode, infer, largest_row
from gkc.arrays import F32
from gkc.store import ElementType, GenerationSink, ItemBlock, UserBlock

_DEPTH = 2


class Writer:
    """Writes all rows of a prepared bundle into a sink.

    Parameters
    ----------
    prepared : Prepared
    element_type : {"f16", "f32", "int8"}
    sink : GenerationSink
    sample : Sample
        Is shown everything that is written.
    progress : callable
        Told how many more items, users and pairs are stored.

    Attributes
    ----------
    peaks : dict of model kind to (float, int)
        Largest absolute value that a model gave, and the row of the whole table that it is of.
    """

    def __init__(
        self,
        prepared: Prepared,
        element_type: ElementType,
        sink: GenerationSink,
        sample: Sample,
        progress: Callable[[int], None],
    ) -> None:
        self._prepared = prepared
        self._element_type: ElementType = element_type
        self._sink = sink
        self._sample = sample
        self._progress = progress
        self.peaks: dict[ModelKind, tuple[float, int]] = {"user": (0.0, 0), "item": (0.0, 0)}

    def write(self) -> None:
        """Write all that the sink does not have yet: items first, then users with their pairs.

        Raises
        ------
        ModelOutputError
            If an output is no vector that can be stored.
        StoreError
            If the store does not take the rows.
        """
        done = self._sink.written()
        self._progress(done.items + done.users + done.user_categories)
        with (
            Ahead(item_batches(self._prepared, done.items), _DEPTH) as prepared,
            Ahead(self._infer_items(prepared), _DEPTH) as inferred,
        ):
            for batch, k_i in inferred:
                self._write_items(batch, k_i)
        with (
            Ahead(user_batches(self._prepared, done.users), _DEPTH) as prepared_users,
            Ahead(self._infer_users(prepared_users), _DEPTH) as inferred_users,
        ):
            for users, k_u, k_uc in inferred_users:
                self._write_users(users, k_u, k_uc)

    def _infer_items(self, batches: Iterable[ItemBatch]) -> Iterator[tuple[ItemBatch, F32]]:
        for batch in batches:
            yield batch, infer(self._prepared, "item", batch.inputs, batch.rows)

    def _infer_users(self, batches: Iterable[UserBatch]) -> Iterator[tuple[UserBatch, F32, F32]]:
        for batch in batches:
            k_u = infer(self._prepared, "user", batch.user_inputs, batch.rows)
            k_uc = infer(self._prepared, "user_category", batch.pair_inputs, batch.pair_rows)
            yield batch, k_u, k_uc

    def _write_items(self, batch: ItemBatch, k_i: F32) -> None:
        stored = encode(self._prepared, "item", k_i, batch.rows, self._element_type)
        self._note_peak("item", k_i, batch)
        new = slice(batch.skip, None)
        block = ItemBlock(
            batch.ids[new], stored[new], batch.categories[new], batch.has_category[new]
        )
        self._sink.write_items(block)
        self._sample.see_items(block)
        self._progress(len(block.ids))

    def _write_users(self, batch: UserBatch, k_u: F32, k_uc: F32) -> None:
        stored = encode(self._prepared, "user", k_u, batch.rows, self._element_type)
        pairs = encode(self._prepared, "user_category", k_uc, batch.pair_rows, self._element_type)
        self._note_peak("user", k_u, batch)
        first = batch.pair_offsets[batch.skip]
        block = UserBlock(
            ids=batch.ids[batch.skip :],
            k_u=stored[batch.skip :],
            pair_offsets=batch.pair_offsets[batch.skip :] - first,
            categories=batch.categories[first:],
            k_uc=pairs[first:],
        )
        self._sink.write_users(block)
        self._sample.see_users(block)
        self._progress(len(block.ids) + len(block.categories))

    def _note_peak(self, kind: ModelKind, vectors: F32, batch: ItemBatch | UserBatch) -> None:
        value, row = largest_row(vectors)
        if value > self.peaks[kind][0]:
            self.peaks[kind] = value, int(batch.rows[row])


def product_overflows(largest_user: float, largest_item: float) -> bool:
    """Tell whether K_u * K_i might not be finite in float32."""
    with np.errstate(over="ignore"):
        return not np.isfinite(np.float32(largest_user) * np.float32(largest_item))
