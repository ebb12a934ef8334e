"""A small parser of Dockerfiles, and what must hold in ours: stages, copies, user, healthcheck."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.deploy import facts

_INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL",
    "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
#: A base image with at least a minor version, and a named distribution: neither moves far.
_PINNED = re.compile(r"^[a-z0-9./-]+:\d+\.\d+\.\d+-[a-z-]+$")


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    rest: str


@dataclass(slots=True)
class Stage:
    image: str
    name: str | None = None
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> str | None:
        """What the last instruction of a name says: only that one counts."""
        found = [each.rest for each in self.instructions if each.name == name]
        return found[-1] if found else None

    def all(self, name: str) -> list[str]:
        return [each.rest for each in self.instructions if each.name == name]


def parse(text: str) -> list[Stage]:
    """The stages.

    Raises:
        ValueError: an instruction that is not known, or one before the first FROM.
    """
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        if name not in _INSTRUCTIONS:
            raise ValueError(f"unknown instruction {name}")
        if name == "ARG":
            argument, _, value = rest.partition("=")
            arguments[argument] = value
        rest = re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], m[0]), rest)
        if name == "FROM":
            image, *alias = rest.split()
            stages.append(Stage(image, alias[1] if alias else None))
        elif stages:
            stages[-1].instructions.append(Instruction(name, rest))
        elif name != "ARG":
            raise ValueError(f"{name} before FROM")
    return stages


def problems_of(text: str, root: Path) -> list[str]:
    """What a build or a reader would stumble over; nothing when it is well."""
    try:
        stages = parse(text)
    except ValueError as error:
        return [str(error)]
    return [*_stages(stages, root), *_final(stages[-1])]


def volumes(text: str) -> list[str]:
    """The folders that the image declares as volumes."""
    return [folder for line in parse(text)[-1].all("VOLUME") for folder in _listed(line)]


def _listed(line: str) -> list[str]:
    """Both forms of a list: JSON, and words."""
    return list(json.loads(line)) if line.startswith("[") else line.split()


def _stages(stages: Sequence[Stage], root: Path) -> Iterator[str]:
    names = {stage.name for stage in stages}
    ignored = (root / ".dockerignore").read_text("utf-8").splitlines()
    for stage in stages:
        if not _PINNED.match(stage.image) and stage.image not in names:
            yield f"FROM {stage.image}: not pinned to a version"
        for copy in stage.all("COPY"):
            *sources, _target = [word for word in copy.split() if not word.startswith("--")]
            source_stage = re.search(r"--from=(\S+)", copy)
            if source_stage:
                if source_stage[1] not in names:
                    yield f"COPY from {source_stage[1]}: no such stage"
                continue
            for source in sources:
                if not (root / source).exists():
                    yield f"COPY {source}: not there"
                elif is_ignored(source, ignored):
                    yield f"COPY {source}: .dockerignore leaves it out"


def is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether a build's context leaves a path out: the last pattern that matches decides."""
    ignored = False
    for line in patterns:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted = not pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        parts = path.split("/")
        # A pattern that matches a folder matches what is in it.
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if pattern.startswith("**/"):
            heads, pattern = parts, pattern.removeprefix("**/")
        if any(
            fnmatch.fnmatchcase(head, pattern) and head.count("/") == pattern.count("/")
            for head in heads
        ):
            ignored = wanted
    return ignored


def _final(stage: Stage) -> Iterator[str]:
    user = (stage.last("USER") or "root").split(":")[0]
    if user in ("root", "0"):
        yield "runs as root"
    elif not user.isdigit():
        yield "USER is a name: runAsNonRoot cannot check it"
    entrypoint = json.loads(stage.last("ENTRYPOINT") or "[]")
    if entrypoint[-1:] != ["confkeep"]:
        yield "ENTRYPOINT does not end in confkeep"
    yield from facts.problems_of_command(json.loads(stage.last("CMD") or "[]"))
    health = re.search(r"CMD (\[.*\])$", stage.last("HEALTHCHECK") or "")
    if health is None:
        yield "no HEALTHCHECK"
    else:
        program, *arguments = json.loads(health[1])
        if program != "confkeep":
            yield f"HEALTHCHECK runs {program}"
        yield from facts.problems_of_command(arguments)
    environment = dict(
        word.split("=", 1) for line in stage.all("ENV") for word in shlex.split(line)
    )
    yield from facts.problems_of_environment(environment)
    if environment.get("CONFKEEP_METRICS_ADDRESS") != "0.0.0.0":
        yield "nobody outside the container can ask for metrics"
    if environment.get("REMAP_SIGTERM") != "SIGQUIT":
        yield "REMAP_SIGTERM is not set: a long repack would hold up the end"
    if not any(re.search(r"apt-get install .*\bgit\b", run) for run in stage.all("RUN")):
        yield "no git"
    labels = " ".join(stage.all("LABEL"))
    for name in ("title", "description", "version", "licenses"):
        if f"org.opencontainers.image.{name}=" not in labels:
            yield f"no label {name}"
