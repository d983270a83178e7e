"""What a load test asks for, how much and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.world import Shape


class Name(StrEnum):
    """Of a preset."""

    SMOKE = "smoke"
    LATENCY = "latency"
    STRESS = "stress"


@dataclass(frozen=True)
class Preset:
    """One kind of load test."""

    purpose: str
    shape: Shape
    """Of each version that is made where no running service is named."""
    models: int
    """Simulated ranking models."""
    seconds: float
    rate: float | None = None
    """Requests per second, Poisson arrivals; None: each model asks as soon as it is answered."""
    checked: float = 0.01
    """Share of the answers that are looked into."""


_LARGE = Shape(users=50_000, items=500_000)

PRESETS = {
    Name.SMOKE: Preset(
        "that everything works",
        Shape(users=1_000, items=5_000, pairs=10, categories=20, dim=16),
        models=4,
        seconds=10,
        rate=40,
        checked=1.0,
    ),
    Name.LATENCY: Preset(
        "how long answers take at a fixed, moderate rate",
        _LARGE,
        models=100,
        seconds=180,
        rate=100,
    ),
    Name.STRESS: Preset(
        "how many answers per second there are when all ask without pause",
        _LARGE,
        models=64,
        seconds=60,
    ),
}
