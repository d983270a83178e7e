"""The service as a team would write it in a day: one MGET, pydantic rows, JSON. Frozen: see below.

python -m bench.servers.plain --port PORT --redis redis://HOST:PORT/0

Every vector lies under a key of its own, as float16: ``VERSION:u:USER``, ``VERSION:i:ITEM``,
``VERSION:uc:USER:CATEGORY``. It was written before the service was made fast, and is not to be
changed afterwards: it is what a speed-up is measured against. It does what is asked and no more: no
generations, no default vectors, no metrics, no deadlines.
"""

from __future__ import annotations

import argparse
from typing import Annotated, Any

import numpy as np
import redis.asyncio
import uvicorn
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from gkc.http.metrics import Metrics
from gkc.http.run import server_options


class Quadruple(BaseModel):
    """One row asked for."""

    u: int
    i: int
    c: int
    v: str


class Question(BaseModel):
    """A request."""

    quadruples: list[Quadruple]


class Answer(BaseModel):
    """Its answer: rows [K_u, K_i, K_u * K_i, K_uc], and whether each of the three was found."""

    knowledge: list[list[float]]
    status: list[list[int]]


app = FastAPI()


def connected(request: Request) -> redis.asyncio.Redis:
    """Return the one client with its pool of connections."""
    client: redis.asyncio.Redis = request.app.state.redis
    return client


@app.post("/knowledge")
async def knowledge(
    question: Question, client: Annotated[redis.asyncio.Redis, Depends(connected)]
) -> Answer:
    """Answer all rows from one MGET of the distinct keys."""
    wanted: dict[str, None] = {}
    for row in question.quadruples:
        wanted[f"{row.v}:u:{row.u}"] = None
        wanted[f"{row.v}:i:{row.i}"] = None
        wanted[f"{row.v}:uc:{row.u}:{row.c}"] = None
    values: list[Any] = await client.mget(list(wanted))
    width = max((len(value) for value in values if value is not None), default=0) // 2
    nothing = np.zeros(width, dtype=np.float32)
    found = {
        key: nothing if value is None else np.frombuffer(value, dtype="<f2").astype(np.float32)
        for key, value in zip(wanted, values, strict=True)
    }
    is_there = {key: int(value is not None) for key, value in zip(wanted, values, strict=True)}
    rows, status = [], []
    for row in question.quadruples:
        keys = (f"{row.v}:u:{row.u}", f"{row.v}:i:{row.i}", f"{row.v}:uc:{row.u}:{row.c}")
        k_u, k_i, k_uc = (found[key] for key in keys)
        rows.append(np.concatenate([k_u, k_i, k_u * k_i, k_uc]).tolist())
        status.append([is_there[key] for key in keys])
    return Answer(knowledge=rows, status=status)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers.plain", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True)
    arguments = parser.parse_args()
    app.state.redis = redis.asyncio.Redis.from_url(arguments.redis)
    uvicorn.run(app, port=arguments.port, **server_options(Metrics()))


if __name__ == "__main__":
    main()
