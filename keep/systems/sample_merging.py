"""Sample Merging: Base on the impressions of all scenes together, with one head.

The sub-domain's impressions are among those of all scenes, so each is taken once.

References
----------
KEEP (CIKM'22), section 6.2.
"""

from __future__ import annotations

from keep.systems import base
from keep.systems.system import Lesson, System, every, one_pass

SAMPLE_MERGING = System(
    options=base.SuperDomainOptions,
    # With no setting of its own, the method tries Base's spread of fresh embeddings.
    tried=every(
        batch_size=(128, 512), learning_rate=(0.001, 0.003), embedding_std=(0.01, 0.05, 0.2)
    ),
    learn=one_pass(base.build, Lesson.super_domain),
)
