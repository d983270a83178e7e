"""The floor of any FastAPI service: a route that reads the body and answers with nothing.

python -m bench.servers.empty --port PORT
"""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI, Request, Response

from gkc.http.metrics import Metrics
from gkc.http.run import server_options

app = FastAPI()


@app.post("/knowledge")
async def knowledge(request: Request) -> Response:
    """Read the whole body and answer 200 without one."""
    await request.body()
    return Response()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers.empty", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, **server_options(Metrics()))


if __name__ == "__main__":
    main()
