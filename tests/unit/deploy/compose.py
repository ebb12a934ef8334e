"""docker-compose.yml: the part of the compose specification that it uses, and what must hold in it.

The models forbid what they do not know: a misspelt key is a problem, not something that an engine
ignores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tests.unit.deploy import dockerfile, facts

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+(ms|s|m|h))+$")]
Size = Annotated[str, StringConstraints(pattern=r"^\d+[KMG]$")]
Number = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]
#: An image must name a version: neither none nor one that moves.
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?[a-z0-9.-]*$")]

_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:?[-?+])?[^}]*\}")
_DEFAULT = re.compile(r"(?<!\$)\$\{\w+:-([^}]*)\}")
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_AUTH$|_KEY$")
_LOOPBACK = "127.0.0.1:"
#: Images of this project.
_OURS = re.compile(r"^confkeep(-full)?:")
#: Folders that others' images declare as volumes.
_DECLARED = {"valkey/valkey": ["/data"], "prom/prometheus": ["/prometheus"], "grafana/grafana": []}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Limits(Strict):
    cpus: Number
    memory: Size
    pids: int


class Reservations(Strict):
    memory: Size


class Resources(Strict):
    limits: Limits
    reservations: Reservations | None = None


class Deploy(Strict):
    replicas: Annotated[str, StringConstraints(pattern=r"^\$\{WORKERS:-\d+\}$")] | None = None
    resources: Resources


class Healthcheck(Strict):
    test: list[str] = Field(min_length=2)
    interval: Duration
    timeout: Duration
    retries: int = Field(ge=1)
    start_period: Duration


class Build(Strict):
    context: str
    args: dict[str, str] = {}


class Condition(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Logging(Strict):
    driver: Literal["json-file", "local", "journald"]
    options: dict[str, str]


class Service(Strict):
    image: Image
    restart: Literal["unless-stopped"]
    read_only: Literal[True]
    cap_drop: list[Literal["ALL"]] = Field(min_length=1)
    security_opt: list[str]
    logging: Logging
    stop_grace_period: Duration
    deploy: Deploy
    build: Build | None = None
    pull_policy: Literal["never"] | None = None
    user: str | None = None
    entrypoint: list[str] | None = None
    command: list[str] = []
    environment: dict[str, str] = {}
    tmpfs: list[str] = []
    depends_on: dict[str, Condition] = {}
    volumes: list[str] = []
    ports: list[str] = []
    profiles: list[str] = []
    healthcheck: Healthcheck | None = None

    @property
    def is_ours(self) -> bool:
        return _OURS.match(self.image) is not None

    @property
    def runs_confkeep(self) -> bool:
        return self.is_ours and self.entrypoint is None


class Compose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    services: dict[str, Service]
    volumes: dict[str, None]


def read(path: Path) -> Any:
    """The file as YAML; aliases and merges are resolved."""
    return yaml.safe_load(path.read_text("utf-8"))


def seconds(duration: str) -> float:
    """A duration of the specification in seconds."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h)", duration))


def problems_of(document: Any, root: Path) -> list[str]:
    """What an engine or a reader of this file would stumble over; nothing when it is well."""
    try:
        compose = Compose.model_validate(document)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors(include_url=False)
        ]
    extra = [key for key in compose.model_extra or {} if not key.startswith("x-")]
    problems = [f"{key}: not of the specification" for key in extra]
    for name, service in compose.services.items():
        found = [
            *_dependencies(compose, service),
            *_volumes(compose, service, root),
            *_outside(service),
            *_secrets(service),
            *_anonymous(service, root),
        ]
        if service.is_ours:
            found += facts.problems_of_environment(_with_defaults(service.environment))
        if service.runs_confkeep:
            found += facts.problems_of_command(service.command)
        problems += [f"{name}: {problem}" for problem in found]
    return [*problems, *_builds(compose), *_workers(compose), *_memory(compose)]


def _dependencies(compose: Compose, service: Service) -> list[str]:
    problems = []
    for name, how in service.depends_on.items():
        other = compose.services.get(name)
        if other is None:
            problems.append(f"depends on {name}, which is not there")
        elif how.condition == "service_healthy" and not (other.healthcheck or other.runs_confkeep):
            problems.append(f"waits for the health of {name}, which has no healthcheck")
        elif not set(other.profiles) <= set(service.profiles):
            problems.append(f"depends on {name}, whose profile may not be active")
    return problems


def _volumes(compose: Compose, service: Service, root: Path) -> list[str]:
    problems = []
    for volume in service.volumes:
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            if not (root / source).exists():
                problems.append(f"mounts {source}, which is not there")
            if mode != ["ro"]:
                problems.append(f"may write to {source}")
        elif source not in compose.volumes:
            problems.append(f"mounts the volume {source}, which is not declared")
        if not target.startswith("/"):
            problems.append(f"mounts {source} at {target}")
    return problems


def _anonymous(service: Service, root: Path) -> list[str]:
    """Folders for which the engine would make a volume without a name, a new one for each container."""
    if service.is_ours:
        declared = dockerfile.volumes((root / "Dockerfile").read_text("utf-8"))
    else:
        declared = _DECLARED[service.image.split(":")[0]]
    mounted = {volume.split(":")[1] for volume in service.volumes}
    mounted |= {folder.split(":")[0] for folder in service.tmpfs}
    return [
        f"{folder} gets a volume without a name" for folder in declared if folder not in mounted
    ]


def _builds(compose: Compose) -> list[str]:
    """Each of our images is built by one service: an image holds the name of the one that built it."""
    problems = []
    for image in sorted({each.image for each in compose.services.values() if each.is_ours}):
        services = {name: each for name, each in compose.services.items() if each.image == image}
        builders = [name for name, each in services.items() if each.build is not None]
        if len(builders) != 1:
            problems.append(f"{image}: built by {builders}")
        problems += [
            f"{name}: would look for {image} in a registry"
            for name, each in services.items()
            if each.build is None and each.pull_policy != "never"
        ]
    return problems


def _outside(service: Service) -> list[str]:
    problems = [
        f"publishes {port} to everybody" for port in service.ports if not port.startswith(_LOOPBACK)
    ]
    if "no-new-privileges:true" not in service.security_opt:
        problems.append("may gain privileges")
    if service.user in ("root", "0"):
        problems.append("runs as root")
    return problems


def _secrets(service: Service) -> list[str]:
    problems = []
    for name, value in service.environment.items():
        if _SECRET.search(name) and not re.fullmatch(r"\$\{\w+:(-|\?[^}]+)\}", value):
            problems.append(f"{name} is not taken from a variable that must be set")
        password = re.search(r"://[^/@]*:([^/@]*)@", value)
        if password and not re.match(r"\$\{\w+:\?", value[password.start(1) :]):
            problems.append(f"{name} holds a password")
    return problems


def _workers(compose: Compose) -> list[str]:
    problems = []
    for name, service in compose.services.items():
        if not service.runs_confkeep or service.command[:1] != ["worker"]:
            continue
        if seconds(service.stop_grace_period) < facts.shortest_grace_s():
            problems.append(f"{name}: is killed while it ends in order")
        if (
            service.deploy.replicas is None
            or service.ports
            or facts.is_numbered(service.environment)
        ):
            problems.append(f"{name}: cannot be multiplied")
    return problems


def _memory(compose: Compose) -> list[str]:
    """Whether a full inbox is refused by us, before the server refuses, before the kernel kills it."""
    broker = compose.services["broker"]
    found = re.search(r"--maxmemory (\d+)gb", " ".join(broker.command))
    if found is None:
        return ["broker: no --maxmemory"]
    most = int(found[1]) * 2**30
    problems = []
    if int(broker.deploy.resources.limits.memory.removesuffix("M")) * 2**20 < 2 * most:
        problems.append("broker: rewriting its file may take more memory than it has")
    for name, service in compose.services.items():
        if service.runs_confkeep and service.command[:1] == ["worker"]:
            accepted = int(service.environment.get("CONFKEEP_TOTAL_MAX_BYTES", 2**63))
            if accepted > 0.75 * most:
                problems.append(f"{name}: accepts more than the server keeps")
    return problems


def _with_defaults(environment: dict[str, str]) -> dict[str, str]:
    """The environment where nothing is set outside the file that need not be."""
    return {name: _DEFAULT.sub(r"\1", value) for name, value in environment.items()}


def required_variables(text: str) -> set[str]:
    """The variables that must be set, or may be, outside the file."""
    return {match[1] for match in _VARIABLE.finditer(text)}
