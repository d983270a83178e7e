"""The image and the compose stack name only commands, options, settings and files that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gkc.settings import Settings, known_variables

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OWN_IMAGE = re.compile(r"^gkc:")


def _json_instruction(name: str) -> list[str]:
    """The last ENTRYPOINT or CMD of the Dockerfile that is not part of a HEALTHCHECK."""
    found = re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def _own_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    return {name: each for name, each in services.items() if OWN_IMAGE.match(each["image"])}


def _documented_exports() -> list[list[str]]:
    """Command lines of `docker compose run exporter` in the compose file's header."""
    text = (ROOT / "docker-compose.yml").read_text()
    lines = re.findall(r"run --rm exporter (.*)$", text, flags=re.MULTILINE)
    return [["gkc-export", *shlex.split(line)] for line in lines]


def _command_lines() -> list[list[str]]:
    entrypoint = _json_instruction("ENTRYPOINT")
    services = [s.get("entrypoint", entrypoint) + s["command"] for s in _own_services().values()]
    return [entrypoint + _json_instruction("CMD"), *services, *_documented_exports()]


def _settings_named() -> set[str]:
    names = set(re.findall(r"\bGKC_[A-Z_]+", DOCKERFILE))
    for service in _own_services().values():
        names |= service["environment"].keys()
    return names


@pytest.mark.slow
@pytest.mark.parametrize("line", _command_lines(), ids=" ".join)
def test_every_command_line_names_known_commands_and_options(line: list[str]) -> None:
    words = [word for word in line[1:] if word != "--help"]
    subcommands = [words[0]] if words and line[0] == "gkc" else []
    done = subprocess.run(
        [str(Path(sys.executable).parent / line[0]), *subcommands, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", done.stdout), f"{line[0]} has no {option}"


def test_every_setting_exists() -> None:
    assert _settings_named()
    assert _settings_named() <= known_variables()


def test_the_stack_says_who_may_call() -> None:
    service = COMPOSE["services"]["service"]
    host = service["command"][service["command"].index("--host") + 1]
    allowed = service["environment"]["GKC_ALLOW_ANONYMOUS"]
    assert not Settings(host=host, allow_anonymous=allowed).is_open_unasked
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "to this machine alone"


def test_the_serving_image_has_no_training_packages() -> None:
    used = re.findall(r"requirements/(\w+)\.txt", DOCKERFILE)
    assert used == ["exporter", "build", "zig"]
    assert "torch" not in (ROOT / "requirements" / "exporter.txt").read_text()


def test_the_image_gets_every_file_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert "gkc" in sources
    assert set(sources) == kept
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_every_mounted_file_of_the_repository_exists() -> None:
    mounts = [m for each in COMPOSE["services"].values() for m in each.get("volumes", [])]
    own = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert "./deploy/prometheus/prometheus.yml" in own
    assert [path for path in own if not (ROOT / path).exists()] == []


def test_every_named_volume_is_declared() -> None:
    mounts = [m for each in COMPOSE["services"].values() for m in each.get("volumes", [])]
    named = {mount.split(":")[0] for mount in mounts if re.match(r"\w", mount)}
    assert named == COMPOSE["volumes"].keys()


def test_redis_never_evicts_knowledge() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_prometheus_scrapes_the_service_where_it_listens() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in COMPOSE["services"]
    assert COMPOSE["services"][host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert int(port) == Settings.model_fields["port"].default


def test_grafana_provisions_the_datasource_and_the_dashboard_it_is_given() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"].split("//")[1].split(":")[0] in COMPOSE["services"]
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/gkc.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/gkc.yml").read_text())["providers"]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
