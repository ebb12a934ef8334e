"""What the code knows: variables, commands, queues and times that deployment files may name."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from confkeep.broker import keys
from confkeep.errors import InvalidSettings
from confkeep.settings import Settings, load_settings, variable_of
from tests.promql import series_of
from worker.app import TASK_MODULES, app, configuration
from worker.cli import COMMANDS, cli
from worker.observe import metrics

ROOT = Path(__file__).parents[3]

#: Folders and files that deployments are made of.
DEPLOYED = ("Dockerfile", "docker-compose.yml", "Procfile", "docs/deploy")

#: Variable -> field of the settings.
VARIABLES = {variable_of(field): field for field in Settings.model_fields}

_VARIABLE = re.compile(r"\bCONFKEEP_[A-Z0-9_]*[A-Z0-9]")
#: Not the file of the second wheel, confkeep_worker-0.1.0.
_METRIC = re.compile(r"\bconfkeep_[a-z_]++(?!-\d)")
#: A pattern of keys, such as `backups.shard.*` in rules of the broker's users, names no queue.
_QUEUE = re.compile(r"\bbackups\.[a-z_]+(?:\.\d+)?(?![a-z_]|\.[\d*])")


def files() -> list[Path]:
    """Every file of a deployment."""
    found: list[Path] = []
    for name in DEPLOYED:
        path = ROOT / name
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sorted(found)


def unknown_variables(text: str) -> list[str]:
    """The variables of ours that a text names and the settings do not have."""
    return sorted(set(_VARIABLE.findall(text)) - VARIABLES.keys())


def unknown_queues(text: str) -> list[str]:
    """The queues and tasks that a text names and Celery does not have."""
    return sorted(set(_QUEUE.findall(text)) - queues() - tasks())


def unknown_metrics(text: str) -> list[str]:
    """The time series that a text names and neither a worker nor the exporter has."""
    known = {series for metric in metrics.ALL for series in series_of(metric)}
    return sorted(set(_METRIC.findall(text)) - known)


@functools.cache
def queues() -> frozenset[str]:
    """Every queue with the default number of shards."""
    shards = Settings.model_fields["shards"].default
    return frozenset([*map(keys.shard_queue, range(shards)), keys.RECEIVE_QUEUE])


@functools.cache
def tasks() -> frozenset[str]:
    """Every task's name."""
    for module in TASK_MODULES:
        importlib.import_module(module)
    return frozenset(name for name in app.tasks if name.startswith("backups."))


def problems_of_command(arguments: Sequence[str]) -> list[str]:
    """What `confkeep ARGUMENTS` would refuse, without running it."""
    if not arguments:
        return ["confkeep: no command"]
    name, *rest = arguments
    if name not in COMMANDS:
        return [f"confkeep {name}: no such command"]
    context = click.Context(cli, info_name="confkeep")
    command = cli.get_command(context, name)
    assert command is not None
    try:
        command.make_context(name, list(rest), parent=context)
    except click.exceptions.ClickException as error:
        return [f"confkeep {' '.join(arguments)}: {error.format_message()}"]
    return []


def unknown_words(name: str, options: Sequence[str]) -> list[str]:
    """The command, if there is none of this name, or the options that it does not have."""
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        return [f"confkeep {name}: no such command"]
    known = {text for each in command.params for text in (*each.opts, *each.secondary_opts)}
    return [f"confkeep {name} {o}: no such option" for o in options if o not in {*known, "--help"}]


def problems_of_environment(environment: Mapping[str, str | None]) -> list[str]:
    """What the settings would refuse of an environment; None: a value that only the cluster knows."""
    known = {
        VARIABLES[name]: value
        for name, value in environment.items()
        if name in VARIABLES and value is not None
    }
    problems = [
        f"{name}: no such setting"
        for name in environment
        if name.startswith("CONFKEEP_") and name not in VARIABLES
    ]
    try:
        load_settings(**known)
    except InvalidSettings as error:
        problems.append(str(error))
    return problems


def is_numbered(environment: Mapping[str, str | None]) -> bool:
    """Whether it gives a worker a part of the shards, which only one with a disk of its own should have."""
    return bool({"CONFKEEP_WORKER_INDEX", "CONFKEEP_WORKER_COUNT"} & environment.keys())


@functools.cache
def shortest_grace_s() -> float:
    """Seconds that a worker's end may take: the soft shutdown, a batch, and as much again.

    A batch is bounded by its bytes; no disk that anybody would want needs a slice's time for it.
    """
    soft_s = float(configuration()["worker_soft_shutdown_timeout"])
    return 2 * (soft_s + float(Settings.model_fields["slice_s"].default))
