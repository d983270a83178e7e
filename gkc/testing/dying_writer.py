"""A writer to be killed: stages a sample, says how far it is, and waits for the end.

Run as ``python -m gkc.testing.dying_writer URL NAMESPACE VERSION {begun,written,sealed}``.
"""

from __future__ import annotations

import sys
import time

from gkc.logs import set_up_logging
from gkc.store import open_publisher
from gkc.testing.samples import item_slices, make_sample, stage, user_slices, write_sample


def main(url: str, namespace: str, version: str, phase: str) -> None:
    """Write until ``phase``, then print the generation and sleep."""
    set_up_logging()  # standard output is for the answer
    sample = make_sample(version)
    publisher = open_publisher(url, namespace)
    with stage(publisher, sample.spec) as staged:
        if phase == "written":
            for items in item_slices(sample.items):
                staged.sink.write_items(items)
            for users in user_slices(sample.users):
                staged.sink.write_users(users)
        elif phase == "sealed":
            write_sample(staged, sample)
        sys.stdout.write(staged.generation + "\n")
        sys.stdout.flush()
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
