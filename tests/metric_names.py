"""Which metrics the service has, as it names them itself."""

from __future__ import annotations

import re

from gkc.http.metrics import Metrics


def metric_names() -> set[str]:
    """Return the names of all metrics, those of a cache included."""
    metrics = Metrics()
    metrics.user_cache()
    text = metrics.render(None, True).decode()
    return set(re.findall(r"^# TYPE (\w+) ", text, flags=re.MULTILINE))
