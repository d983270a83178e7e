"""Knowledge as a client hands it out: rows by part, with their statuses and generations."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from gkc.arrays import F32, U8
from gkc.errors import ClientUsageError
from gkc.knowledge import Part, Vectors


class Knowledge:
    """Rows of knowledge, in the order asked.

    Parameters
    ----------
    rows : ndarray, shape (n, width), float32 or float16, writable
        The parts side by side; whoever gives them away changes them no more.
    status : ndarray, shape (n, 4), uint8
        Of user, item, user_item, user_category: 0 absent, 1 found, 2 the default vector.
    parts : mapping of str to (int, int)
        First and end column of each part.
    versions : mapping of str to str
        The generation that answered for each version.
    described : mapping of str to object, optional
        For each version what ``GET /versions`` tells of that generation, where it is known.
    age : float, optional
        While the store is away, how many seconds ago it was last asked which generation is current;
        None for an ordinary answer.

    Attributes
    ----------
    rows, status
        The same, read-only: views of what was received, which they keep.
    parts, versions, described, age
        The same.
    """

    __slots__ = ("_memory", "age", "described", "parts", "rows", "status", "versions")

    def __init__(
        self,
        rows: Vectors,
        status: U8,
        parts: Mapping[str, tuple[int, int]],
        versions: Mapping[str, str],
        described: Mapping[str, Mapping[str, Any]] | None = None,
        age: float | None = None,
    ) -> None:
        self._memory = rows
        self.age = age
        self.described = described or {}
        self.rows = rows.view()
        self.rows.flags.writeable = False
        self.status = status.view()
        self.status.flags.writeable = False
        self.parts = parts
        self.versions = versions

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made of."""
        told = dict(self.parts), dict(self.versions), dict(self.described)
        return Knowledge, (self._memory, self.status, *told, self.age)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Say what it is, without its numbers."""
        n, width = self.rows.shape
        return f"<Knowledge of {n} rows of {width} {self.rows.dtype}: {dict(self.versions)}>"

    def __getitem__(self, part: Part) -> Vectors:
        """Return a part's columns, shape (n, its width): a view.

        Raises
        ------
        KeyError
            If the answer has no such part.
        """
        if part not in self.parts:
            there = ", ".join(self.parts) or "none"
            raise KeyError(f"{part!r} is no part of this answer; its parts: {there}")
        start, end = self.parts[part]
        return self.rows[:, start:end]

    def torch(self) -> Any:  # noqa: ANN401 - a torch.Tensor; torch is there only for who asks
        """Return the rows as a ``torch.Tensor`` that shares their memory: write into a clone."""
        from gkc.offline.tensors import shared_tensor

        return shared_tensor(self._memory)

    @property
    def logits(self) -> F32:
        """Each task's score of user and item, shape (n, T), float32, in the order of ``tasks``.

        For towers of their own, laid side by side: the sum of a task's columns of ``user_item``;
        for one tower: ``user_item`` times ``task_weights``.

        Raises
        ------
        ClientUsageError
            If the answer lacks ``user_item``, or the bundle does not tell what is needed.
        """
        if "user_item" not in self.parts:
            raise ClientUsageError("logits are made of user_item; ask for it in parts")
        product = self["user_item"].astype(np.float32)
        names, weights = self._task_weights(product.shape[1])
        if weights is not None:
            return product @ weights
        starts = np.cumsum([0, *(task["dim"] for task in names)])
        return np.stack(
            [product[:, start:end].sum(axis=1) for start, end in pairwise(starts)], axis=1
        )

    def _task_weights(self, dim: int) -> tuple[list[Mapping[str, Any]], F32 | None]:
        """Return the tasks, and the weights of each, shape (D, T), if one tower serves all."""
        told = [self.described.get(version) for version in self.versions]
        if not told or None in told:
            raise ClientUsageError(
                "logits need to know the tasks, but GET /versions does not describe generation "
                f"{', '.join(self.versions.values())}; ask once more"
            )
        first, *others = [(d.get("tasks", []), d.get("task_weights", [])) for d in told if d]
        if any(other != first for other in others):
            raise ClientUsageError(
                f"the tasks of versions {', '.join(self.versions)} differ; ask for each by itself"
            )
        tasks, weights = first
        if weights:
            return tasks, _weight_matrix(tasks, weights, dim)
        widths = [task["dim"] for task in tasks]
        if not tasks or sum(widths) != dim:
            raise ClientUsageError(
                f"logits need `tasks` whose dims add up to {dim}, or `task_weights`, in the "
                f"bundle's manifest; it tells the dims {widths}: write them there, and export again"
            )
        return tasks, None


def _weight_matrix(tasks: list[Mapping[str, Any]], weights: Any, dim: int) -> F32:  # noqa: ANN401
    """Return the weights of the tasks as columns, shape (D, T)."""
    if isinstance(weights, dict):
        weights = [weights[task["name"]] for task in tasks if task["name"] in weights]
    lengths = {len(of_task) for of_task in weights}
    if lengths != {dim} or (tasks and len(weights) != len(tasks)):
        raise ClientUsageError(
            f"`task_weights` in the bundle's manifest do not have {dim} numbers for each of its "
            f"{len(tasks)} tasks; mend them, and export again"
        )
    return np.array(weights, dtype=np.float32).T
