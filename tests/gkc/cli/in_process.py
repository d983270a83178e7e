"""The ``gkc`` command run inside the test's process, and named by the tests' folder."""

from __future__ import annotations

import functools

from tests import in_process

gkc = functools.partial(in_process.command, "gkc")
done = functools.partial(in_process.done, "gkc")
