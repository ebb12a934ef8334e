"""What a reader answers, as data that goes through JSON unchanged: to a caller of HTTP, and out of a task."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.engine.search import MatchEntry

#: A moment in UTC; in JSON with a Z at its end, as pydantic writes moments of that zone.
Moment = dt.datetime


class Answer(BaseModel):
    """An answer; bytes are base64 in JSON."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class TenantEntry(Answer):
    """A tenant."""

    tenant_id: str
    name: str | None = None


class TenantCounts(TenantEntry):
    """A tenant with the number of its devices and versions, and when it was last backed up."""

    devices: int
    versions: int
    last_backup_at: Moment | None = None
    #: Why the numbers are not known and 0.
    problem: str | None = None


# Not a model: a directory has thousands that are kept, and each takes 1,100 bytes less so.
@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """A device of the directory."""

    device_id: str
    #: Its label, or without one the name in its newest export.
    name: str | None = None
    own_name: str | None = None
    address: str | None = None
    model: str | None = None
    group: str | None = None
    #: The number of its versions; the newest one's commit, and its committer's date.
    versions: int
    sha: str
    message: str
    changed_at: Moment
    #: Likewise of the newest version whose export differs in more than volatile lines; null if that is not known.
    export_changed_at: Moment | None = None
    #: When it was last backed up, changed or not; null if git does not tell.
    last_backup_at: Moment | None = None
    #: Why the newest version looks bad or failed; null if it looks good, or if that is not known.
    suspect: str | None = None


class DevicesPage(Answer):
    """Some devices of a directory."""

    devices: list[DeviceEntry]
    #: There are more behind the page.
    more: bool


class VersionEntry(Answer):
    """A version of a device."""

    sha: str
    backup_id: str | None = None
    message: str
    committed_at: Moment
    #: From then on it is valid: when the device was asked, if that is known.
    captured_at: Moment
    #: Until then it was valid: when the next version was captured; null for the newest, and where it was not
    #: looked up.
    valid_until: Moment | None = None
    #: The export differs in more than volatile lines from the version before.
    export_changed: bool
    lines_added: int
    lines_removed: int
    #: Null if the version has no such file.
    export_bytes: int | None = None
    binary_bytes: int | None = None
    #: Why the capture looks bad or failed; null if it looks good.
    suspect: str | None = None


class File(Answer):
    """A file of a version."""

    data: bytes = Field(repr=False)
    #: git's id of the object.
    object_id: str
    sha: str


class DiffAnswer(Answer):
    """The difference of two exports."""

    old_sha: str
    new_sha: str
    #: The hunks, as git prints them; empty if there is no difference.
    hunks: bytes = Field(repr=False)


class Since(Answer):
    """The version that brought a line."""

    sha: str
    captured_at: Moment


class CommitEntry(Answer):
    """A commit of a tenant."""

    sha: str
    kind: Literal["backup", "naming", "other"]
    device_id: str | None = None
    backup_id: str | None = None
    message: str
    committed_at: Moment
    captured_at: Moment
    #: The commit changed one of the device's files: it is a version.
    changed: bool
    device_name: str | None = None


class CommitsPage(Answer):
    """Commits after a given one, oldest first."""

    commits: list[CommitEntry]
    #: The newest commit of the page; null if the tenant has none.
    head: str | None = None
    #: There are more behind the page.
    more: bool


class FoundEntry(Answer):
    """The matches in one device's newest export; or a tenant whose exports cannot be read, without a device."""

    tenant_id: str
    tenant_name: str | None = None
    device_id: str | None = None
    name: str | None = None
    sha: str | None = None
    matches: list[MatchEntry]
    #: Why nothing was searched in this tenant.
    problem: str | None = None


def counts_of(tenant: TenantEntry, devices: Sequence[DeviceEntry]) -> TenantCounts:
    """A tenant with the counts of its directory."""
    return TenantCounts(
        tenant_id=tenant.tenant_id,
        name=tenant.name,
        devices=len(devices),
        versions=sum(each.versions for each in devices),
        last_backup_at=max(
            (each.last_backup_at for each in devices if each.last_backup_at), default=None
        ),
    )
