"""Traffic of a ranking system: one user and many candidates a request, users by Zipf's law.

``loadtest.run`` starts it with the settings below in the environment. Ids are drawn from the ranges
given; ids that were not exported are part of real traffic, so a range may be wider than the tables.
"""

from __future__ import annotations

import json
import os
import random

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

VERSIONS = os.environ["LOADTEST_VERSIONS"].split(",")
USERS = int(os.environ["LOADTEST_USERS"])
ITEMS = int(os.environ["LOADTEST_ITEMS"])
CANDIDATES = (1, 50, 200, 500, 1000)


class RankingModel(FastHttpUser):
    """A downstream model that asks for the knowledge of one user and its candidates."""

    wait_time = constant_throughput(float(os.environ["LOADTEST_RATE_PER_USER"]))

    @task
    def rank(self) -> None:
        """Ask once, and count an answer as failed unless it is a 200 with a body."""
        count = random.choice(CANDIDATES)
        body = {
            "u": int(USERS ** random.random()),  # log-uniform: Zipf's law with exponent 1
            "i": [random.randint(1, ITEMS) for _ in range(count)],
            "v": random.choice(VERSIONS),
            "dtype": "f16",
        }
        with self.client.post(
            "/knowledge",
            data=json.dumps(body),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/x-safetensors",
            },
            name=f"POST /knowledge, {count} candidates",
            catch_response=True,
        ) as response:
            if response.status_code != 200 or not response.content:
                response.failure(f"status {response.status_code}")


@events.quitting.add_listener
def fail_on_errors(environment: Environment, **_: object) -> None:
    """Exit with 1 if any request failed."""
    if environment.stats.total.num_failures:
        environment.process_exit_code = 1
