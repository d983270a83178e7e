"""Every compared system by its name: the one that runs, files and commands call it by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keep.systems.base import BASE
from keep.systems.base_with_user import BASE_WITH_USER
from keep.systems.bert4rec import BERT4REC
from keep.systems.conet import CONET
from keep.systems.darec import DAREC
from keep.systems.keep_c import KEEP_C
from keep.systems.plugged import KEEP
from keep.systems.s3rec import S3REC
from keep.systems.sample_merging import SAMPLE_MERGING
from keep.systems.system import System

SYSTEMS: Mapping[str, System[Any, Any, Any]] = {
    "base": BASE,
    "base_with_user": BASE_WITH_USER,
    "sample_merging": SAMPLE_MERGING,
    "conet": CONET,
    "darec": DAREC,
    "keep_c": KEEP_C,
    "bert4rec": BERT4REC,
    "s3rec": S3REC,
    "keep": KEEP,
}
