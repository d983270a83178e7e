"""Tests of pretraining: none without torch, and one thread, since many tests share the cores."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pretraining needs the extra 'keep'")
torch.set_num_threads(1)
