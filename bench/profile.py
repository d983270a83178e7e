"""Where the time of a request goes: py-spy's samples of the service under load, step by step.

    python -m bench.profile [--save]

py-spy is installed from ``requirements/profile.txt`` into ``.venv-profile`` at the first run.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Final

import typer

from bench.environments import separate_environment
from bench.load import CONCURRENCY, Ask
from bench.options import Rounds, Save, Seconds
from bench.results import Figure, Section, tell
from bench.stage import Stage
from bench.world import Shape

SHAPE: Final = Shape(users=20_000)
ROWS: Final = (1, 500)
BODIES: Final = 2_000
SAMPLES_PER_SECOND: Final = 500
STEPS: Final[Mapping[str, Sequence[str]]] = {
    "decode": ("gkc.http.decoding:decode_json", "gkc.http.decoding:decode_safetensors"),
    "resolve": ("gkc.answering.serving:Serving.resolve",),
    "plan": ("gkc.center.plan:Plan.__init__",),
    "users: Redis": (
        "gkc.store.backends.redis.pipe:ReadPipe.run",
        "gkc.store.backends.redis.pipe:_Link.ask",
        "gkc.store.backends.redis.pipe:_Link.data_received",
        "gkc.store.backends.redis.pipe:_Link._flush",
        "gkc.store.backends.redis.user_records:UserRecords.read",
    ),
    "users: around the read": (
        "gkc.answering.reader:GuardedReader.fetch_users",
        "gkc.answering.user_cache:UserCache.fetch_users",
    ),
    "items": ("gkc.center.plan:Plan.find_items",),
    "lay": ("gkc.center.plan:Plan.take", "gkc.center.plan:Plan.lay"),
    "encode": ("gkc.http.encoding:encode",),
    "send": ("gkc.http.asgi:respond", "gkc.http.transport:GatheringTransport.send"),
    "count": ("gkc.http.tally:Tally.end", "gkc.http.metrics:Metrics.add_tally"),
    "the rest of answering": ("gkc.answering.answering:Answering.answer",),
    "around it": (
        "gkc.http.routes:KnowledgeEndpoint.__call__",
        "gkc.http.middleware:Observed.__call__",
        "gkc.http.app:Front.__call__",
    ),
    "uvicorn: HTTP and its task": (
        "uvicorn.protocols.http.httptools_impl:RequestResponseCycle.run_asgi",
        "gkc.http.wire:GatheringProtocol.data_received",
    ),
    "the loop: uvloop, sockets, kernel": ("asyncio.runners:Runner.run",),
}
"""Steps and the functions they are known by; a sample counts for the first step that it is in."""
OTHER: Final = "other threads and the interpreter"


def main(*, rounds: Rounds = 3, seconds: Seconds = 8, save: Save = False) -> None:
    """Profile requests of one row and of many, and tell."""
    spy = separate_environment("profile") / "py-spy"
    figures: list[Figure] = []
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        server = stage.serve(knowledge.url)
        for rows in ROWS:
            questions = knowledge.questions(rows, BODIES, seed=1, dtype="f16")
            asked = Ask(server, stage.write(f"{rows}", questions))
            profiles = [profile(spy, stage, asked, seconds) for _ in range(rounds)]
            for step in (*STEPS, OTHER):
                times = [split.get(step, 0.0) for split in profiles]
                figures.append(Figure(f"B = {rows}: {step}", times, "us", digits=1))
    section = Section(
        module="bench.profile",
        title="Where a request's time goes",
        method=(
            f"CPU time of the service for each request, split by py-spy's samples "
            f"({SAMPLES_PER_SECOND} a second, {seconds} s) under {CONCURRENCY} requests of wrk at "
            f"a time: 1 user by B candidates, safetensors rows in f16. A sample counts for the "
            f"first of these steps that its stack is in; what C code under a step takes counts "
            f"for it. The profiler itself slows the service a little."
        ),
        figures=figures,
    )
    tell(section, save=save)


def profile(spy: Path, stage: Stage, asked: Ask, seconds: int) -> dict[str, float]:
    """Load a server, sample it, and split its CPU time per request: microseconds by step.

    Raises
    ------
    SystemExit
        If py-spy cannot sample it.
    """
    with tempfile.NamedTemporaryFile(suffix=".raw") as raw:
        command = [str(spy), "record", "--rate", str(SAMPLES_PER_SECOND), "--nonblocking"]
        command += ["--duration", str(seconds), "--format", "raw", "--output", raw.name]
        sampling = subprocess.Popen(
            [*command, "--pid", str(asked.server.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        run = stage.ask(asked, seconds + 1)
        if sampling.wait():
            raise SystemExit("py-spy could not sample the service; it may need root (ptrace)")
        counts = by_step(Path(raw.name).read_text(encoding="utf-8").splitlines())
    total = sum(counts.values())
    return {step: 1000 * run.cpu_ms * count / total for step, count in counts.items()}


def by_step(lines: Iterable[str]) -> Counter[str]:
    """Count samples by step; idle worker threads are left out.

    Lines are py-spy's raw format: frames from the outermost, by semicolons, then a count.
    """
    marks = {step: [mark_of(name) for name in names] for step, names in STEPS.items()}
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if "concurrent/futures/thread" in stack:
            continue  # waits for work, though it looks busy to the profiler
        frames = stack.split(";")
        step = next((name for name, known in marks.items() if _is_in(frames, known)), OTHER)
        counts[step] += int(count)
    return counts


def mark_of(name: str) -> tuple[str, str]:
    """Return what py-spy tells of ``MODULE:FUNCTION``: how it begins, and its module's file.

    Raises
    ------
    SystemExit
        If there is no such function: it was renamed, or is gone.
    """
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        raise SystemExit(f"bench.profile knows a step by {name}, which does not exist") from None
    module, _, function = name.partition(":")
    return f"{function} (", f"{module.replace('.', '/')}.py:"


def _is_in(frames: Sequence[str], marks: Sequence[tuple[str, str]]) -> bool:
    return any(frame.startswith(name) and file in frame for frame in frames for name, file in marks)


if __name__ == "__main__":
    typer.run(main)
