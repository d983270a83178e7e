"""The peer's side of ``bench.training``: deepctr-torch's DIN, run in ``.venv-peer``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from bench.training_task import Task, peer_file, run_side

# deepctr-torch asks an index for a newer release when it is imported. Without a usable `requests`
# it says so and goes on: a measurement asks nobody.
sys.modules["requests"] = ModuleType("requests")

from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # type: ignore[import-not-found]  # noqa: E402
from deepctr_torch.models.din import DIN  # type: ignore[import-not-found]  # noqa: E402

ITEM_FEATURES = ("item", "shop", "category")


class Peer:
    """DIN as deepctr-torch builds and fits it, without Dice, batch norm and regularisation."""

    package = f"deepctr-torch {version('deepctr-torch')}"

    def __init__(self, task: Task) -> None:
        self.task = task
        self.columns = dict(np.load(peer_file(task)))
        sizes = dict(zip(("user", *ITEM_FEATURES), self.columns.pop("sizes"), strict=True))
        self.labels = self.columns.pop("label")
        features = [SparseFeat("user", sizes["user"], task.user_dim)]
        features += [SparseFeat(name, sizes[name], task.feature_dim) for name in ITEM_FEATURES]
        for name in ITEM_FEATURES:
            shared = SparseFeat(f"hist_{name}", sizes[name], task.feature_dim, embedding_name=name)
            features.append(VarLenSparseFeat(shared, task.behaviours, length_name="seq_length"))
        self.model = DIN(
            features,
            list(ITEM_FEATURES),
            dnn_hidden_units=task.mlp,
            att_hidden_size=(task.attention,),
            att_activation="relu",
            l2_reg_embedding=0.0,
            seed=task.seed,
        )
        self._start_as_we_do()
        adam = torch.optim.Adam(self.model.parameters(), lr=task.learning_rate, fused=True)
        self.model.compile(adam, "binary_crossentropy")
        self.parameters = sum(weights.numel() for weights in self.model.parameters())

    def fit(self, samples: int) -> float:
        """Call the package's own ``fit`` on NumPy columns."""
        columns = {name: column[:samples] for name, column in self.columns.items()}
        history = self.model.fit(
            columns, self.labels[:samples], batch_size=self.task.batch_size, epochs=1, verbose=0
        )
        return float(history.history["loss"][0])

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Call the package's own ``predict``."""
        first = self.task.samples
        columns = {name: column[first:] for name, column in self.columns.items()}
        predicted = self.model.predict(columns, batch_size=4096)
        return self.labels[first:], np.asarray(predicted[:, 0], dtype=np.float64)

    def _start_as_we_do(self) -> None:
        """Draw the weights as keep does: the package's start (0.0001) learns nothing for long."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Linear):
                module.reset_parameters()
            elif isinstance(module, torch.nn.Embedding):
                torch.nn.init.normal_(module.weight, 0.0, self.task.embedding_std)


if __name__ == "__main__":
    run_side(Peer)
