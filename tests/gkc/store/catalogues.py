"""Catalogues as exports leave them, for tests."""

from __future__ import annotations

from gkc.store import Catalogue, GenerationManifest, GenerationSpec, Retention, Totals, changes

NOW = 1_000_000.0


def spec_of(version: str, fingerprint: str = "f", users: int = 10) -> GenerationSpec:
    return GenerationSpec(version, "f16", 4, 2, users, 20, 30, "bundle", fingerprint)


def begin(catalogue: Catalogue, version: str, token: str = "t") -> tuple[Catalogue, str]:
    return changes.begin(catalogue, spec_of(version), 99, token, "someone")


def publish(
    catalogue: Catalogue,
    version: str,
    *,
    max_versions: int = 5,
    keep_previous: int = 1,
    pin: bool = False,
) -> Catalogue:
    catalogue, generation = begin(catalogue, version)
    return finish(catalogue, version, generation, max_versions, keep_previous, pin=pin)[0]


def finish(
    catalogue: Catalogue,
    version: str,
    generation: str,
    max_versions: int = 5,
    keep_previous: int = 1,
    *,
    pin: bool = False,
    token: str = "t",
) -> tuple[Catalogue, list[str]]:
    spec = spec_of(version)
    manifest = GenerationManifest(generation, spec, spec.layout, Totals(10, 20, 30, 999))
    return changes.publish(
        catalogue,
        manifest,
        Retention(max_versions, keep_previous, pin=pin),
        token=token,
        published_at="2021-12-20T03:00:00Z",
        now=NOW,
    )


def served(catalogue: Catalogue) -> list[str]:
    return [e.current for e in catalogue.versions.values()]
