"""The cost of the wire: a FastAPI route that reads the body and answers with so many bytes.

python -m bench.servers.wire --port PORT --bytes BYTES
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
    """Read the whole body and answer 200 with the bytes made at start."""
    await request.body()
    return Response(request.app.state.content, media_type="application/x-safetensors")


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers.wire", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    arguments = parser.parse_args()
    app.state.content = bytes(arguments.bytes)
    uvicorn.run(app, port=arguments.port, **server_options(Metrics()))


if __name__ == "__main__":
    main()
