"""docker-compose.yml is valid, complete and closed to the outside; each check can fail."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy import compose, facts

PATH = facts.ROOT / "docker-compose.yml"
DOCUMENT = compose.read(PATH)


def test_the_file_has_no_problem() -> None:
    assert compose.problems_of(DOCUMENT, facts.ROOT) == []


def services(document: Any) -> Any:
    return document["services"]


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a misspelt key": (
        lambda d: services(d)["broker"].update(helthcheck={}),
        "services.broker.helthcheck: Extra inputs",
    ),
    "a key at the top": (lambda d: d.update(service={}), "service: not of the specification"),
    "an image without a version": (
        lambda d: services(d)["broker"].update(image="valkey/valkey"),
        "services.broker.image",
    ),
    "a version that moves": (
        lambda d: services(d)["grafana"].update(image="grafana/grafana:latest"),
        "services.grafana.image",
    ),
    "a file system that can be written": (
        lambda d: services(d)["worker"].update(read_only=False),
        "services.worker.read_only",
    ),
    "an unknown variable": (
        lambda d: services(d)["worker"]["environment"].update(CONFKEEP_SHARD="4"),
        "worker: CONFKEEP_SHARD: no such setting",
    ),
    "a wrong value": (
        lambda d: services(d)["worker"]["environment"].update(CONFKEEP_SHARDS="0"),
        "worker: CONFKEEP_SHARDS",
    ),
    "an unknown command": (
        lambda d: services(d)["exporter"].update(command=["export"]),
        "exporter: confkeep export: no such command",
    ),
    "an unknown option": (
        lambda d: services(d)["worker"].update(command=["worker", "--processes", "2"]),
        "No such option",
    ),
    "a worker with a number": (
        lambda d: services(d)["worker"]["environment"].update(CONFKEEP_WORKER_INDEX="0"),
        "worker: cannot be multiplied",
    ),
    "a port that only one container can have": (
        lambda d: services(d)["worker"].update(ports=["127.0.0.1:9108:9108"]),
        "worker: cannot be multiplied",
    ),
    "a name that only one container can have": (
        lambda d: services(d)["worker"].update(container_name="worker"),
        "services.worker.container_name: Extra inputs",
    ),
    "a volume that is not declared": (
        lambda d: d["volumes"].pop("store"),
        "mounts the volume store, which is not declared",
    ),
    "a folder that is not there": (
        lambda d: services(d)["prometheus"]["volumes"].append("./docs/rules:/rules:ro"),
        "mounts ./docs/rules, which is not there",
    ),
    "a folder of ours that can be written": (
        lambda d: services(d)["grafana"]["volumes"].append("./docs:/docs"),
        "may write to ./docs",
    ),
    "a service that is not there": (
        lambda d: services(d)["worker"]["depends_on"].update(
            redis={"condition": "service_started"}
        ),
        "depends on redis",
    ),
    "the health of a service without healthcheck": (
        lambda d: services(d)["broker"].pop("healthcheck"),
        "waits for the health of broker",
    ),
    "a dependency in another profile": (
        lambda d: (
            services(d)["exporter"].update(profiles=["monitoring"])
            or services(d)["flower"]["depends_on"].update(exporter={"condition": "service_started"})
        ),
        "whose profile may not be active",
    ),
    "a port for everybody": (
        lambda d: services(d)["broker"].update(ports=["6379:6379"]),
        "broker: publishes 6379:6379 to everybody",
    ),
    "a password in the file": (
        lambda d: services(d)["grafana"]["environment"].update(GF_SECURITY_ADMIN_PASSWORD="x"),
        "GF_SECURITY_ADMIN_PASSWORD is not taken from",
    ),
    "a password with a default": (
        lambda d: services(d)["flower"]["environment"].update(FLOWER_BASIC_AUTH="${A:-a:b}"),
        "FLOWER_BASIC_AUTH is not taken from",
    ),
    "a password in a URL": (
        lambda d: services(d)["worker"]["environment"].update(
            CONFKEEP_REDIS_URL="redis://:secret@broker:6379/0"
        ),
        "worker: CONFKEEP_REDIS_URL holds a password",
    ),
    "too short a grace": (
        lambda d: services(d)["worker"].update(stop_grace_period="8s"),
        "worker: is killed while it ends in order",
    ),
    "privileges": (
        lambda d: services(d)["worker"].update(security_opt=[]),
        "worker: may gain privileges",
    ),
    "no limit of the server's memory": (
        lambda d: services(d)["broker"].update(command=["valkey-server"]),
        "broker: no --maxmemory",
    ),
    "memory too little for a rewrite": (
        lambda d: services(d)["broker"]["deploy"]["resources"]["limits"].update(memory="2048M"),
        "broker: rewriting its file",
    ),
    "accepting more than the server keeps": (
        lambda d: services(d)["worker"]["environment"].pop("CONFKEEP_TOTAL_MAX_BYTES"),
        "worker: accepts more than the server keeps",
    ),
    "root": (lambda d: services(d)["broker"].update(user="root"), "broker: runs as root"),
    "two that build the same image": (
        lambda d: services(d)["worker"].update(build={"context": "."}),
        "confkeep:0.1.0: built by ['worker', 'exporter']",
    ),
    "nobody who builds an image": (
        lambda d: services(d)["flower"].pop("build"),
        "confkeep-full:0.1.0: built by []",
    ),
    "an image that is looked for elsewhere": (
        lambda d: services(d)["worker"].pop("pull_policy"),
        "worker: would look for confkeep:0.1.0 in a registry",
    ),
    "a volume without a name": (
        lambda d: services(d)["prometheus"]["volumes"].pop(),
        "prometheus: /prometheus gets a volume without a name",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_has_a_problem(name: str) -> None:
    broken = copy.deepcopy(DOCUMENT)
    change, problem = BROKEN[name]
    change(broken)
    found = compose.problems_of(broken, facts.ROOT)
    assert any(problem in each for each in found), found


def test_no_service_holds_up_who_waits_until_all_are_well() -> None:
    """`up --wait` ends after the first check of the slowest, which comes after its interval."""
    checks = [service.get("healthcheck") for service in DOCUMENT["services"].values()]
    assert max(compose.seconds(check["interval"]) for check in checks if check) <= 30


def test_env_example_names_every_variable_and_holds_no_value() -> None:
    text = (facts.ROOT / "docs/deploy/compose/env.example").read_text("utf-8")
    named = dict(re.findall(r"^#?(\w+)=(.*)$", text, re.MULTILINE))
    assert named.keys() == compose.required_variables(PATH.read_text("utf-8"))
    assert {name for name, value in named.items() if not value} == {
        "VALKEY_PASSWORD",
        "GRAFANA_PASSWORD",
        "FLOWER_BASIC_AUTH",
        "CONFKEEP_SIGNING_KEY",
        "CONFKEEP_HOOKS_NETWORKS",
    }


def test_a_volume_of_our_image_would_be_one_without_a_name(tmp_path: Path) -> None:
    text = (facts.ROOT / "Dockerfile").read_text("utf-8")
    (tmp_path / "Dockerfile").write_text(text.replace("WORKDIR /data", 'VOLUME ["/data", "/tmp"]'))
    (tmp_path / "docs").symlink_to(facts.ROOT / "docs")
    found = compose.problems_of(DOCUMENT, tmp_path)
    names = ("worker", "exporter", "http", "hooks", "flower")
    assert found == [f"{name}: /data gets a volume without a name" for name in names]


def test_prometheus_asks_who_is_there() -> None:
    """The exporter and the workers, each by its service's name."""
    config = compose.read(facts.ROOT / "docs/deploy/compose/prometheus.yml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    [asked] = jobs["confkeep"]["static_configs"]
    environment = DOCUMENT["services"]["exporter"]["environment"]
    assert asked["targets"] == [f"exporter:{environment['CONFKEEP_METRICS_PORT']}"]
    [found] = jobs["confkeep-worker"]["dns_sd_configs"]
    assert found["type"] == "A"
    [name] = found["names"]
    worker = DOCUMENT["services"][name]
    assert worker["command"][0] == "worker"
    assert worker["environment"]["CONFKEEP_METRICS_PORT"] == str(found["port"])


@pytest.mark.parametrize(
    "path", [PATH, facts.ROOT / "docs/deploy/README.md", facts.ROOT / "README.md"], ids=str
)
def test_no_page_builds_whenever_it_starts(path: Path) -> None:
    """A new image, though it holds the same, replaces every container that runs."""
    assert re.findall(r"compose.* up .*--build", path.read_text("utf-8")) == []


def test_the_rules_and_the_dashboard_are_where_the_services_look() -> None:
    services = DOCUMENT["services"]
    config = compose.read(facts.ROOT / "docs/deploy/compose/prometheus.yml")
    [pattern] = config["rule_files"]
    assert in_container(services["prometheus"], pattern) != []
    grafana = facts.ROOT / "docs/deploy/compose/grafana"
    [provider] = compose.read(grafana / "dashboards/confkeep.yml")["providers"]
    assert in_container(services["grafana"], provider["options"]["path"] + "/*.json") != []
    [source] = compose.read(grafana / "datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def in_container(service: Any, pattern: str) -> list[str]:
    """The files of ours that a service sees under a pattern."""
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith(".") and pattern.startswith(target):
            folder = facts.ROOT / source
            return [path.name for path in folder.glob(pattern.removeprefix(f"{target}/"))]
    return []
