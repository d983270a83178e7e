from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from requirements import install
from requirements.install import InstallError, download_bytes, is_cpu_build, plan_torch

RELEASE = install.TORCH_RELEASE


def _report(*packages: tuple[str, str], url: str = "file:///nowhere") -> dict[str, Any]:
    return {
        "version": "1",
        "install": [
            {"metadata": {"name": name, "version": version}, "download_info": {"url": url}}
            for name, version in packages
        ],
    }


TAGGED_CPU = _report(("torch", f"{RELEASE}+cpu"), ("sympy", "1.14.0"))
UNTAGGED_CPU = _report(("torch", RELEASE), ("sympy", "1.14.0"))
UNTAGGED_CUDA = _report(("torch", RELEASE), ("nvidia_cublas_cu12", "12.8.4.1"), ("triton", "3.5.0"))
TAGGED_CUDA = _report(("torch", f"{RELEASE}+cu130"), ("sympy", "1.14.0"))
TAGGED_ROCM = _report(("torch", f"{RELEASE}+rocm7.0"), ("sympy", "1.14.0"))
NEW_STYLE_CUDA = _report(("torch", RELEASE), ("cuda-toolkit", "13.0.2"), ("cuda-pathfinder", "1.3"))


@pytest.mark.parametrize("report", [TAGGED_CPU, UNTAGGED_CPU])
def test_a_build_without_accelerator_packages_is_a_cpu_build(report: dict[str, Any]) -> None:
    assert is_cpu_build(report)


@pytest.mark.parametrize("report", [UNTAGGED_CUDA, TAGGED_CUDA, TAGGED_ROCM, NEW_STYLE_CUDA])
def test_a_build_for_an_accelerator_is_none(report: dict[str, Any]) -> None:
    assert not is_cpu_build(report)


def test_a_report_without_torch_is_an_error() -> None:
    with pytest.raises(InstallError, match="names no torch"):
        is_cpu_build(_report(("sympy", "1.14.0")))


@pytest.mark.parametrize(
    ("choice", "default", "cpu", "expected"),
    [
        ("cpu", TAGGED_CPU, None, f"torch=={RELEASE}"),
        ("cpu", UNTAGGED_CPU, None, f"torch=={RELEASE}"),
        ("cpu", UNTAGGED_CUDA, TAGGED_CPU, f"torch=={RELEASE}+cpu"),
        ("cpu", UNTAGGED_CUDA, None, None),
        ("cuda", UNTAGGED_CUDA, None, f"torch=={RELEASE}"),
        ("cuda", TAGGED_CPU, None, f"torch=={RELEASE}"),
        ("none", UNTAGGED_CUDA, TAGGED_CPU, None),
    ],
)
def test_the_plan(
    choice: str, default: dict[str, Any], cpu: dict[str, Any] | None, expected: str | None
) -> None:
    assert plan_torch(choice, default, cpu) == expected


def test_sizes_of_files_are_added_up_and_unknown_ones_counted(tmp_path: Path) -> None:
    wheel = tmp_path / "torch.whl"
    wheel.write_bytes(b"x" * 1234)
    report = _report(("torch", RELEASE), ("sympy", "1.14.0"), url=wheel.as_uri())
    report["install"] += _report(("gone", "1"), url=(tmp_path / "gone.whl").as_uri())["install"]
    assert download_bytes(report) == (2468, 1)


def test_the_refusal_names_the_size_and_both_ways_out(tmp_path: Path) -> None:
    wheel = tmp_path / "torch.whl"
    with wheel.open("wb") as file:
        file.truncate(2_700_000_000)
    message = install.refusal(_report(("torch", RELEASE), url=wheel.as_uri()))
    assert "2.7 GB" in message
    assert "TORCH=cuda" in message
    assert "TORCH=none" in message
    assert "\n" not in message


def test_the_release_is_outside_the_hashed_files() -> None:
    folder = Path(install.__file__).parent
    for lock in folder.glob("*.txt"):
        assert not [line for line in lock.read_text().splitlines() if line.startswith("torch==")]


def test_an_unknown_choice_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as raised:
        install.main(["--torch", "tpu"])
    assert raised.value.code == 2
