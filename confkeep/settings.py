"""The settings, read from the environment.

Every value comes from a variable `CONFKEEP_<NAME>`, else from the file `.env` in the working directory.
`get_settings` reads them once per process. The tables in the docs are generated from here.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import os
import pathlib
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from confkeep.errors import InvalidSettings
from confkeep.signing import Keyring
from confkeep.urls import DEFAULT_REDIS_URL, parse_sentinels
from confkeep.wording import first_fault

#: A file in the working directory with variables that the environment lacks.
ENV_FILE: Final = ".env"

_MIB = 1024 * 1024
#: How many captures, binaries, days, weeks or months retention keeps; None: no such rule.
_Kept = Annotated[int | None, Field(ge=1, le=1_000_000)]
_SCHEMES = ("redis://", "rediss://", "unix://", "sentinel://")


class Settings(BaseSettings):
    """A deployment's settings. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix="CONFKEEP_",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    redis_url: str = Field(
        DEFAULT_REDIS_URL,
        repr=False,
        description="Redis or Valkey: `redis://`, `rediss://`, `unix:///path?db=0` or `sentinel://`",
    )
    git_store_path: Annotated[pathlib.Path, NoDecode] = Field(
        pathlib.Path("confkeep-data/store"),
        validation_alias=AliasChoices("CONFKEEP_GIT_STORE_PATH", "GIT_STORE_PATH"),
        description="Folder of the tenants' repositories (`GIT_STORE_PATH` is read too)",
    )
    staging: Literal["redis", "volume"] = Field(
        "redis", description="Where the bytes of accepted backups wait: `redis` or `volume`"
    )
    staging_path: pathlib.Path = Field(
        pathlib.Path("confkeep-data/staging"),
        description="Folder on a volume that producers and workers share, for `volume`",
    )
    shards: int = Field(16, ge=1, le=1024, description="Number of shard queues")
    worker_index: int = Field(
        0, ge=0, description="Number, from 0, of a worker with a disk of its own"
    )
    worker_count: int = Field(
        1,
        ge=1,
        le=1024,
        description="Number of workers with disks of their own, among which the shards are divided; 1: each serves all shards",
    )
    batch_max_backups: int = Field(256, ge=1, le=10_000, description="Most backups in a batch")
    batch_max_bytes: int = Field(
        64 * _MIB, ge=1, description="Most bytes in a batch; a larger backup is one of its own"
    )
    inbox_max_backups: int = Field(
        100_000, ge=1, description="Most backups that may wait for one tenant"
    )
    inbox_max_bytes: int = Field(
        4096 * _MIB, ge=1, description="Most bytes that may wait for one tenant"
    )
    total_max_backups: int = Field(
        1_000_000, ge=1, description="Most backups that may wait for all tenants"
    )
    total_max_bytes: int = Field(
        16_384 * _MIB,
        ge=1,
        description="Most bytes that may wait for all tenants; in the server's memory at most 60 % of its "
        "maxmemory, whatever this says",
    )
    replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="Replicas that must have a backup before its enqueue returns: all that the server has, if a "
        "failover is to lose nothing (docs/operate.md)",
    )
    allow_volatile_broker: bool = Field(
        False, description="Work with a server that may lose what it acknowledged"
    )
    slice_s: float = Field(
        5.0, gt=0, le=30, description="Seconds a task commits for one tenant before others' turn"
    )
    lock_ttl_s: float = Field(
        8.0, ge=1, le=60, description="Seconds until a dead worker's tenant lock expires"
    )
    sweep_interval_s: float = Field(
        2.0, gt=0, le=60, description="Seconds between two looks for forgotten inboxes"
    )
    wake_ttl_s: float = Field(
        5.0, gt=0, le=60, description="Seconds until the sweep looks for an unanswered wake-up"
    )
    receipt_ttl_s: int = Field(
        8 * 86_400, ge=60, description="Seconds that a receipt can be asked for in Redis"
    )
    events_max: int = Field(
        10_000,
        ge=100,
        le=10_000_000,
        description="Events kept in Redis, about 1 kB each; who reads later gets its commits from git",
    )
    events_days: float = Field(7.0, gt=0, le=3650, description="Days that an event stays in Redis")
    stale_hours: float = Field(
        26.0,
        ge=0,
        le=87_600,
        description="Hours without a backup after which a device is stale; an event tells of it, looked at each "
        "hour; 0: never",
    )
    redis_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Seconds to wait for an answer of Redis"
    )
    repack_packs: int = Field(
        40, ge=0, description="Packs of a tenant above which it is repacked; 0: never by itself"
    )
    repack_loose_objects: int = Field(
        2_000, ge=0, description="Loose objects, estimated, above which a tenant is repacked"
    )
    signing_key: SecretStr | None = Field(
        None,
        description="Signs what is enqueued (docs/security.md); several, with commas: the first "
        "signs, all verify; empty: off",
    )
    signing_required: bool = Field(
        True, description="With a key: refuse what has no signature; 0 while a key is introduced"
    )
    read_tasks: bool = Field(
        True,
        description="Answer the reading tasks, such as `backups.read_file`, which anybody who "
        "may send a task can ask for",
    )
    reject_suspect: bool = Field(
        False,
        description="Refuse captures that look bad or failed by themselves, instead of only marking "
        "them",
    )
    keep_last: _Kept = Field(
        None,
        description="Retention: captures of each device to keep (docs/retention.md); empty: all",
    )
    keep_days: _Kept = Field(None, description="Retention: days of which to keep every capture")
    keep_daily: _Kept = Field(None, description="Retention: days of which to keep one capture")
    keep_weekly: _Kept = Field(None, description="Retention: weeks of which to keep one capture")
    keep_monthly: _Kept = Field(None, description="Retention: months of which to keep one capture")
    binary_keep_last: _Kept = Field(
        None,
        description="Retention: binaries of each device to keep (docs/retention.md); empty: all",
    )
    binary_keep_days: _Kept = Field(
        None, description="Retention: days of which to keep every binary"
    )
    binary_keep_daily: _Kept = Field(
        None, description="Retention: days of which to keep one binary"
    )
    binary_keep_weekly: _Kept = Field(
        None, description="Retention: weeks of which to keep one binary"
    )
    binary_keep_monthly: _Kept = Field(
        None, description="Retention: months of which to keep one binary"
    )
    retention_grace_days: float = Field(
        7.0, ge=0, le=3650, description="Days that a history stays after retention replaced it"
    )
    run_path: pathlib.Path | None = Field(
        None,
        description="Folder on this machine, not on the volume, for what `confkeep health` reads; "
        "empty: `confkeep-UID` in `/tmp`",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of this worker's, or the exporter's, Prometheus metrics; 0: a worker has none",
    )
    metrics_address: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that metrics are served on; containers want `0.0.0.0`",
    )
    http_port: int = Field(8080, ge=1, le=65_535, description="Port of `confkeep http`")
    http_address: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that `confkeep http` listens on; containers want `0.0.0.0`",
    )
    http_store: bool = Field(
        True,
        description="Whether `confkeep http` reads the store at CONFKEEP_GIT_STORE_PATH; 0: it asks the workers",
    )
    http_requests: int = Field(
        6_000, ge=1, description="Most requests of one token in a minute; more are refused"
    )
    http_mib: int = Field(
        2_048, ge=1, description="Most MiB that one token may send in a minute; more are refused"
    )
    http_user_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which a trusted proxy names who signed in there, such as `X-Forwarded-Email` "
        "(docs/pages.md); empty: people sign in with tokens",
    )
    http_trusted_proxies: str = Field(
        "",
        # An empty one is looked at too.
        validate_default=True,
        description="Networks from which that header is believed, such as `10.1.0.7/32, fd00::7/128`: the "
        "proxy's own address lies in them, and nobody else's",
    )
    public_url: str = Field(
        "",
        description="Where people reach `confkeep http`, such as `https://confkeep.example`: webhooks and "
        "digests link to it; empty: no links",
    )
    hooks_file: pathlib.Path | None = Field(
        None,
        description="File of webhooks, beside those of `confkeep hooks add` (docs/hooks.md)",
    )
    hooks_networks: str = Field(
        "",
        description="Private networks that webhooks may be sent to, such as `10.1.0.0/16, fd00::/8`; empty: "
        "only public addresses",
    )
    digest_urls: SecretStr | None = Field(
        None,
        description="Where the task `backups.digest` sends: addresses of apprise, with spaces between "
        "(extra `notify`)",
    )
    author_name: str = Field(
        "The Other Dude", min_length=1, description="Author and committer of every commit"
    )
    author_email: str = Field("backup@tod.local", min_length=1, description="Their address")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level to log"
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="`console` for people, `json` for log collectors"
    )
    sentry_dsn: str | None = Field(
        None, repr=False, description="Report failures to this DSN of Sentry (extra `sentry`)"
    )
    otel: bool = Field(
        False,
        description="Trace the tasks of workers with OpenTelemetry, as OTEL_* variables say (extra `otel`)",
    )

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(_SCHEMES):
            # The URL may hold a password: the message must not repeat it.
            raise ValueError(f"must start with one of {', '.join(_SCHEMES)}")
        try:
            parse_sentinels(value)
        except ValueError:
            raise ValueError(
                "must be sentinel://host:port;sentinel://host:port/db?master_name=name, and what has a "
                "meaning in a URL must be written as %40 and so on"
            ) from None
        return value

    @field_validator("public_url")
    @classmethod
    def _is_a_web_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("hooks_networks", "http_trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in networks_in(value):
            ipaddress.ip_network(network)
        return value

    @field_validator("http_trusted_proxies")
    @classmethod
    def _are_of_a_proxy(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("http_user_header") and not networks_in(value):
            raise ValueError(
                "must be set where CONFKEEP_HTTP_USER_HEADER is: the address of the proxy that sets the "
                "header, such as 10.1.0.7/32; from elsewhere anybody could send it"
            )
        if any(ipaddress.ip_network(network).prefixlen == 0 for network in networks_in(value)):
            raise ValueError("must not hold all addresses: then anybody is believed to be anybody")
        return value

    @field_validator("signing_key")
    @classmethod
    def _good_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        Keyring.parse(value.get_secret_value())
        return value

    @field_validator("author_name", "author_email")
    @classmethod
    def _fits_a_signature(cls, value: str) -> str:
        if any(c in "<>\n\0" for c in value):
            raise ValueError("must not contain '<', '>', a line break or NUL")
        return value

    @model_validator(mode="after")
    def _index_below_count(self) -> Settings:
        if self.worker_index >= self.worker_count:
            raise ValueError("CONFKEEP_WORKER_INDEX must be below CONFKEEP_WORKER_COUNT")
        return self

    @property
    def author(self) -> tuple[str, str]:
        """Name and address of every commit's author and committer."""
        return self.author_name, self.author_email

    @property
    def stale_after_s(self) -> float:
        """The age of its newest backup from which a device is stale; infinite if none ever is."""
        return self.stale_hours * 3_600 or math.inf

    @functools.cached_property
    def keyring(self) -> Keyring | None:
        """The keys of `signing_key`; None turns signing and checking off."""
        if self.signing_key is None:
            return None
        return Keyring.parse(self.signing_key.get_secret_value())


def networks_in(text: str) -> list[str]:
    """The networks in the text of a setting, separated by commas or spaces."""
    return text.replace(",", " ").split()


def variable_of(field: str) -> str:
    """The environment variable that sets `field` of `Settings`."""
    return f"CONFKEEP_{field.upper()}"


def load_settings(**values: Any) -> Settings:
    """Read the environment and `.env`; `values` win over both.

    Raises:
        InvalidSettings: names the variable and what is wrong, never its value; or `.env` cannot be read.
    """
    # After `sudo -u` in another user's home, the working directory cannot be entered.
    env_file = ENV_FILE if os.access(".", os.X_OK) else None
    try:
        return Settings(_env_file=env_file, **values)
    except OSError as error:
        problem = f"{error.strerror}: let this user read it, or work in another folder"
        raise InvalidSettings(ENV_FILE, problem) from None
    except UnicodeDecodeError:
        raise InvalidSettings(ENV_FILE, "must be UTF-8") from None
    except ValidationError as error:
        field, problem = first_fault(error)
        name = field or "worker_index"
        variable = name if name.isupper() else variable_of(name)
        raise InvalidSettings(variable, problem) from None


@functools.cache
def get_settings() -> Settings:
    """The process's settings, read from the environment and `.env` at the first call."""
    return load_settings()
