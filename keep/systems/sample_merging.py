"""Sample Merging: Base on the impressions of all scenes together, with one head.

The sub-domain's impressions are among those of all scenes, so each is taken once.

References
----------
KEEP (CIKM'22), section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from keep.systems import base
from keep.systems.system import Lesson, System, every, one_pass


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How the merged Base is built and trained."""

    batch_size: int = 128
    """Larger than Base's own: a day of all scenes has many times the sub-domain's rows."""


SAMPLE_MERGING = System(
    options=Options,
    # With no setting of its own, the method tries Base's spread of fresh embeddings.
    tried=every(
        batch_size=(128, 512), learning_rate=(0.001, 0.003), embedding_std=(0.01, 0.05, 0.2)
    ),
    learn=one_pass(base.build, Lesson.super_domain),
)
