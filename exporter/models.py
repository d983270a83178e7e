"""A bundle's ONNX models: arrays in, knowledge out, every fault traced to its row of a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from exporter.bundle import Bundle
from exporter.errors import BundleError, ModelOutputError
from exporter.features import TEXT, Values, blank
from exporter.manifest import ModelKind, columns_of
from exporter.sessions import ORT_ERRORS, InferenceError, Sessions, reason_of
from exporter.tables import FeatureTable
from gkc.arrays import F32, I64, U8
from gkc.errors import NotStorableError
from gkc.store import ElementType, encode_vectors

_BATCH_SIZES: Final = (128, 256, 512, 2048)
_TUNING_RUNS: Final = 3
_SLOW_SECONDS: Final = 1.0
"""A batch that takes so long gains nothing by being larger."""
_LEAST_ROWS: Final = 2
"""Of one row alone, onnxruntime computes other last bits than of the same row among others."""
_LIKELY_BATCHES: Final[Sequence[int]] = sorted(
    {*range(1, 65), *(1 << k for k in range(7, 13)), 96, 100, 200, 300, 500, 1000, 2000}
)
_PROBED_ROWS: Final = 8
"""Rows of a batch that are tried one by one, to tell whether any of them lets a model run."""
_BATCH_HINT: Final = (
    "it seems made for a fixed number of rows: export it with a dynamic batch dimension "
    "(dynamic_axes or dynamic_shapes in torch.onnx.export)"
)

_INTEGERS: Final = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_INPUT_TYPES: Final = {
    **{f"tensor({name})": np.dtype(name) for name in (*_INTEGERS, "float16", "bool")},
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(string)": TEXT,
}
_OUTPUT_TYPES: Final = ("tensor(float16)", "tensor(float)", "tensor(double)")

_RUN_ERRORS: Final[tuple[type[Exception], ...]] = (InferenceError, *ORT_ERRORS)


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model.

    Attributes
    ----------
    name : str
    columns : tuple of str
        The column that feeds it, or several.
    is_stacked : bool
        Whether they are a list in the manifest, to stand side by side.
    dtype : numpy dtype
    rank : int or None
        None where the model leaves it open.
    width : int or None
        Size of the second dimension, None where there is none or the model leaves it open.
    """

    name: str
    columns: tuple[str, ...]
    is_stacked: bool
    dtype: np.dtype[Any]
    rank: int | None
    width: int | None


class Model:
    """One ONNX model of a bundle, loaded and checked against the manifest.

    Parameters
    ----------
    bundle : Bundle
    kind : {"user", "item", "user_category"}
    table : FeatureTable
        Whose rows it has one output for.
    sessions : Sessions
        Loads it and runs the batches; may be shared by models.

    Attributes
    ----------
    inputs : list of ModelInput
    width : int
        Of its output: D or D_c.

    Raises
    ------
    BundleError
        If the file is no ONNX model, or its inputs or output are not what the manifest says.
    """

    def __init__(
        self, bundle: Bundle, kind: ModelKind, table: FeatureTable, sessions: Sessions
    ) -> None:
        self._sessions = sessions
        spec = bundle.models[kind]
        self.kind = kind
        self.table = table
        self.file = spec.file
        self.output = spec.output
        self.width = bundle.width(kind)
        self._session = sessions.load(bundle, spec.file)
        nodes = {node.name: node for node in self._session.get_inputs()}
        self._require_same_names(set(spec.inputs), set(nodes))
        self.inputs = [self._input(nodes[n], fed) for n, fed in spec.inputs.items()]
        self._check_output()
        fixed = {n.shape[0] for n in nodes.values() if n.shape and isinstance(n.shape[0], int)}
        if len(fixed) > 1:
            raise BundleError(self.file, f"its inputs have unequal batch sizes {sorted(fixed)}")
        self._fixed = fixed.pop() if fixed else None
        self._batch_size = self._fixed

    def _require_same_names(self, fed: set[str], inputs: set[str]) -> None:
        optional = {node.name for node in self._session.get_overridable_initializers()}
        if missing := sorted(inputs - fed):
            raise BundleError(self.file, f"nothing feeds its input {missing[0]!r}")
        if extra := sorted(fed - inputs):
            why = "has a value of its own" if extra[0] in optional else "is no input of the model"
            raise BundleError(self.file, f"the manifest feeds {extra[0]!r}, which {why}")

    def _input(self, node: ort.NodeArg, fed: str | list[str]) -> ModelInput:
        if node.type not in _INPUT_TYPES:
            problem = f"takes {node.type}, which no column feeds: only numbers and strings"
            raise BundleError(self.file, f"input {node.name!r} {problem}")
        # onnxruntime gives [] also where the model says nothing of the shape.
        rank = len(node.shape) or None
        if rank is not None and rank > 2:
            raise BundleError(
                self.file, f"input {node.name!r} has {rank} dimensions; at most 2 can be fed"
            )
        width = node.shape[1] if rank == 2 and isinstance(node.shape[1], int) else None
        return ModelInput(
            node.name,
            tuple(columns_of(fed)),
            isinstance(fed, list),
            _INPUT_TYPES[node.type],
            rank,
            width,
        )

    def _check_output(self) -> None:
        nodes = {node.name: node for node in self._session.get_outputs()}
        if self.output not in nodes:
            raise BundleError(
                self.file, f"has no output {self.output!r}; its outputs: {', '.join(nodes)}"
            )
        node = nodes[self.output]
        if node.type not in _OUTPUT_TYPES:
            raise BundleError(self.file, f"output {self.output!r} is {node.type}, not floats")
        shape = node.shape
        if shape and (len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != self.width)):
            raise BundleError(
                self.file,
                f"output {self.output!r} has shape {shape}, not the manifest's width {self.width}",
            )

    def infer(self, inputs: Mapping[str, Values], rows: I64) -> F32:
        """Run the model on a batch.

        Parameters
        ----------
        inputs : mapping of str to ndarray, shape (n,) or (n, width)
        rows : ndarray, shape (n,), int64
            Rows of the whole table that the outputs are of.

        Returns
        -------
        ndarray, shape (n, D) or (n, D_c), float32

        Raises
        ------
        ModelOutputError
            If the model fails, or its output is not as wide as it must be.
        """
        try:
            return self.run(inputs)
        except InferenceError as exc:
            raise self.error(exc.problem, rows, exc.row) from exc

    def encode(self, vectors: F32, rows: I64, element_type: ElementType) -> U8:
        """Encode a batch's outputs, shape (n, D) or (n, D_c), float32, to stored bytes.

        Raises
        ------
        ModelOutputError
            If one is not finite, or does not stay finite in the stored type.
        """
        try:
            return encode_vectors(vectors, element_type)
        except NotStorableError as exc:
            problem = f"gave {exc.value!r}, which is not finite as {element_type}"
            raise self.error(problem, rows, exc.row) from exc

    def error(self, problem: str, rows: I64, at: int | None) -> ModelOutputError:
        """Build the error about one of a batch's rows, or, with ``at`` None, about the batch."""
        file, row = self.table.locate(int(rows[at or 0]))
        return ModelOutputError(self.file, self.output, file, None if at is None else row, problem)

    def run(self, inputs: Mapping[str, Values]) -> F32:
        """Run the model on many rows, in batches of the size that is fastest here, on all cores.

        Parameters
        ----------
        inputs : mapping of str to ndarray, shape (n,) or (n, width)
            By input name.

        Returns
        -------
        ndarray, shape (n, D) or (n, D_c), float32
            Cast from whatever float type the model gives; may hold values that are not finite.

        Raises
        ------
        InferenceError
            If the model fails, takes too long, or its output is not (n, width).
        """
        rows = _count(inputs)
        if self._batch_size is None and rows >= _BATCH_SIZES[0]:
            timing = self._sessions.submit(self._fastest_batch_size, inputs, rows)
            self._batch_size = self._sessions.result(timing)
        size = self._batch_size or max(rows, 1)
        out = np.empty((rows, self.width), dtype=np.float32)
        pieces = [slice(start, start + size) for start in range(0, rows, size)]
        running = [self._sessions.submit(self._run_into, out, inputs, piece) for piece in pieces]
        try:
            for future in running:
                self._sessions.result(future)
        finally:
            for future in running:
                future.cancel()
        return out

    def _run_into(self, out: F32, inputs: Mapping[str, Values], rows: slice) -> None:
        piece = {name: values[rows] for name, values in inputs.items()}
        try:
            out[rows] = self._run_piece(piece)
        except _RUN_ERRORS as exc:
            fault = exc if isinstance(exc, InferenceError) else self._fault(piece, reason_of(exc))
            row = None if fault.row is None else rows.start + fault.row
            raise InferenceError(row, fault.problem) from exc

    def _run_piece(self, piece: Mapping[str, Values]) -> npt.NDArray[Any]:
        rows = _count(piece)
        least = self._fixed or _LEAST_ROWS
        if rows < least:
            # Repeating the last row is safe for any model; what it gives is cut off again.
            last = np.minimum(np.arange(least), rows - 1)
            piece = {name: values[last] for name, values in piece.items()}
        result = self._run_exactly(piece)
        with np.errstate(over="ignore"):
            cast: npt.NDArray[Any] = result[:rows].astype(np.float32, copy=False)
        return cast

    def _run_exactly(self, piece: Mapping[str, Values]) -> npt.NDArray[Any]:
        """Run the model on just these rows, and check that it gives one vector for each."""
        result = self._sessions.run(self._session, self.output, piece)
        rows = _count(piece)
        if isinstance(result, np.ndarray) and result.shape == (rows, self.width):
            return result
        shape = getattr(result, "shape", type(result).__name__)
        problem = f"gave shape {shape} for {rows} rows, not {(rows, self.width)}"
        if isinstance(shape, tuple) and shape[:1] != (rows,):
            hint = _shape_hint(shape, rows, self.width)
            raise InferenceError(None, f"{problem}, a vector for each row; {hint}")
        raise InferenceError(0, problem)

    def _fault(self, piece: Mapping[str, Values], reason: str) -> InferenceError:
        """Tell whether a row of a piece on which the model fails is to blame, or their number.

        A row is to blame only if the model takes as many copies of another one, a blank at best.
        """
        rows = _count(piece)
        tried = np.unique(np.linspace(0, rows - 1, min(rows, _PROBED_ROWS)).astype(np.int64))
        blanks = {name: np.full_like(v[:1], blank(v.dtype)) for name, v in piece.items()}
        probes = [blanks, *({n: values[k : k + 1] for n, values in piece.items()} for k in tried)]
        problems = []
        for probe in probes:
            problem = self._problem(_copies(probe, rows))
            if problem is None:
                return self._first_failing(piece, probe, reason)
            problems.append(problem)
        match list(islice(self._passing_counts(probes), 2)):
            case [count]:
                some = "one row" if count == 1 else f"{count} rows"
                return InferenceError(None, f"runs on {some} at a time only; {_BATCH_HINT}")
            case [count, other]:
                some = f"it runs on {count} or {other} rows at a time, but not on {rows}"
                return InferenceError(None, f"{reason}; {some}; {_BATCH_HINT}")
        for row, problem in zip(tried, problems[1:], strict=True):
            if problem != problems[1]:  # what it is depends on the row
                return InferenceError(int(row), problem)
        among = f" in batches of {self._fixed}, which its inputs declare" if self._fixed else ""
        return InferenceError(None, f"{reason}; all rows fail alike{among}; {_BATCH_HINT}")

    def _first_failing(
        self, piece: Mapping[str, Values], passing: Mapping[str, Values], reason: str
    ) -> InferenceError:
        """Halve the rows on which a model fails, the rest being copies of a row that passes."""
        rows = _count(piece)
        fill = _copies(passing, rows)

        def problem_of(low: int, high: int) -> str | None:
            mixed = {name: values.copy() for name, values in fill.items()}
            for name, values in piece.items():
                mixed[name][low:high] = values[low:high]
            return self._problem(mixed)

        low, high = 0, rows
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if problem_of(low, middle) else (middle, high)
        problem = problem_of(low, high)
        # Without a problem no one row is to blame: only several of them together fail.
        return InferenceError(low, problem) if problem else InferenceError(None, reason)

    def _passing_counts(self, probes: Sequence[Mapping[str, Values]]) -> Iterator[int]:
        """Yield the likely numbers of rows that the model takes, unless its inputs declare one."""
        for count in () if self._fixed else _LIKELY_BATCHES:
            # A blank row and a real one: either may be one that the model never takes.
            for probe in probes[:2]:
                try:
                    self._run_exactly(_copies(probe, count))
                except _RUN_ERRORS:
                    continue
                yield count
                break

    def _problem(self, piece: Mapping[str, Values]) -> str | None:
        """Say why the model does not run on some rows; None if it does."""
        try:
            self._run_piece(piece)
        except InferenceError as exc:
            return exc.problem
        except ORT_ERRORS as exc:
            return reason_of(exc)
        return None

    def _fastest_batch_size(self, inputs: Mapping[str, Values], rows: int) -> int | None:
        """Time a few batch sizes on real rows; None, for a later batch to try, if that fails."""
        seconds_per_row: dict[float, int] = {}
        for size in (s for s in _BATCH_SIZES if s <= rows):
            piece = {name: values[:size] for name, values in inputs.items()}
            best = float("inf")
            for _ in range(_TUNING_RUNS):
                start = time.perf_counter()
                try:
                    self._run_piece(piece)
                except _RUN_ERRORS:
                    # The ordinary run that follows meets the same fault and names its row.
                    return None
                best = min(best, time.perf_counter() - start)
            seconds_per_row[best / size] = size
            if best > _SLOW_SECONDS:
                break
        return seconds_per_row[min(seconds_per_row)]


def _count(piece: Mapping[str, Values]) -> int:
    return len(next(iter(piece.values())))


def _copies(row: Mapping[str, Values], count: int) -> dict[str, Values]:
    """Repeat inputs of one row."""
    return {name: np.repeat(values, count, axis=0) for name, values in row.items()}


def _shape_hint(shape: tuple[int, ...], rows: int, width: int) -> str:
    """Say what a model may have done whose output is not of as many rows as its inputs."""
    if shape == (width, rows):
        return "it is transposed: swap its axes"
    if shape[1:] == (width,) and shape[0] % rows == 0:
        return f"it is {shape[0] // rows} vectors for each row: give one"
    if shape in {(width,), (1, width)}:
        return "it is one vector for all rows: give each its own, without a mean, a sum or a slice"
    return _BATCH_HINT
