"""Ranking models that ask as ``plan.json`` says; ``loadtest.generator`` starts Locust with it.

A request is timed from the moment when it was due, so that a stalled service, or a late generator,
cannot hide the waiting behind requests that were never sent.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import time
from pathlib import Path

from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from loadtest.checks import fault
from loadtest.plan import Answer, Outcome, Question, group_of, read_plan, write_outcome

FOLDER = Path(os.environ["LOADTEST_FOLDER"])
PLAN, QUESTIONS = read_plan(FOLDER)
KEPT_BYTES = 2**28
"""Answers that are kept to be looked into afterwards, when it delays nobody; then no more are."""

EVERY_STATUS = frozenset(range(100, 600))
"""Locust's client would make exceptions of some, and loses those whose body is no text."""


class Asked:
    """All requests of the test, and what became of them."""

    def __init__(self) -> None:
        bodies = [json.dumps(question.body, separators=(",", ":")) for question in QUESTIONS]
        names = [f"POST /knowledge, {group_of(q.candidates)} candidates" for q in QUESTIONS]
        self.turns = itertools.cycle(zip(QUESTIONS, bodies, names, strict=True))
        self.answers: list[Answer] = []
        self.kept: list[tuple[int, Question, bytes]] = []
        self.kept_bytes = 0
        self.begin()

    def begin(self) -> None:
        """Begin to count now."""
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    @property
    def at(self) -> float:
        """Seconds since the test began."""
        return time.perf_counter() - self.began

    @property
    def cpu_share(self) -> float:
        """CPU time of this process since then, as a share of a core."""
        return (time.process_time() - self.cpu_began) / self.at

    def keep(self, question: Question, content: bytes) -> None:
        """Perhaps keep the answer that was recorded last."""
        if random.random() < PLAN.checked and self.kept_bytes < KEPT_BYTES:
            self.kept.append((len(self.answers) - 1, question, content))
            self.kept_bytes += len(content)

    def check(self, environment: Environment) -> None:
        """Look into the answers that were kept; Locust's report tells of the wrong ones too."""
        for at, question, content in self.kept:
            wrong = fault(question, content, PLAN.widths, is_complete=PLAN.is_complete)
            self.answers[at] = self.answers[at]._replace(fault=wrong, checked=1)
            if wrong:
                environment.stats.log_error("CHECK", "a wrong answer", wrong)


ASKED = Asked()
gc.freeze()  # requests live as long as the process: the collector need not walk through them


class RankingModel(FastHttpUser):
    """A ranking model that asks for the knowledge of one user and its candidates."""

    network_timeout = 10.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Be due to ask at once, and leave every status to ``rank``."""
        self.due = time.perf_counter()
        self.client.client.valid_response_codes = EVERY_STATUS

    def wait_time(self) -> float:
        """Return the seconds until the next request is due: Poisson arrivals, or none."""
        if PLAN.rate is None:
            return 0.0
        self.due += random.expovariate(PLAN.rate / PLAN.models)
        return max(self.due - time.perf_counter(), 0.0)

    @task
    def rank(self) -> None:
        """Ask once; what is not a 200 has failed."""
        question, body, name = next(ASKED.turns)
        now = time.perf_counter()
        late_ms = 0.0 if PLAN.rate is None else max(now - self.due, 0.0) * 1000
        with self.client.post(
            "/knowledge",
            data=body,
            headers={"Content-Type": "application/json", "Accept": question.accept},
            name=name,
            catch_response=True,
        ) as response:
            response.request_meta["response_time"] += late_ms
            ms = response.request_meta["response_time"]
            wrong = _fault(response)
            if wrong:
                response.failure(wrong)
            answer = Answer(
                ASKED.at,
                question.candidates,
                question.accept,
                late_ms,
                ms,
                wrong,
                checked=0,
            )
            ASKED.answers.append(answer)
            if not wrong:
                ASKED.keep(question, response.content or b"")


@events.test_start.add_listener
def begin(**_: object) -> None:
    """Count from here, not from Locust's own start."""
    ASKED.begin()


@events.test_stop.add_listener
def finish(environment: Environment, **_: object) -> None:
    """Look into the answers that were kept, and write what was found.

    A request that ended in an exception is in no list: then the whole test has failed.
    """
    cpu_share = ASKED.cpu_share
    ASKED.check(environment)
    write_outcome(Outcome(ASKED.answers, cpu_share), FOLDER)
    if environment.runner.exceptions:
        environment.process_exit_code = 1


def _fault(response: ResponseContextManager) -> str:
    """Say how a request failed, in the service's own words if it answered; empty if it did not."""
    error = response.request_meta["exception"]
    if error is not None:
        return f"no answer: {error!r}"
    if response.status_code != 200:
        return f"status {response.status_code}: {(response.content or b'')[:200]!r}"
    return ""
