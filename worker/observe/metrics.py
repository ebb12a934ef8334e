"""Every metric by name: what a worker counts and what the exporter reads.

The tables of docs/metrics.md, the dashboard's and the alerts' checks and both sources of metrics go
by this module. What one worker did is called `confkeep_worker_...`; the rest is of the whole
deployment and comes from the exporter: so no sum counts anything twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from worker.observe import states

#: Upper bounds in seconds of a step's or a lock's buckets.
STEP_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
#: Upper bounds in ms of the buckets from enqueue to receipt; above the last there is one more. Up
#: to hours: what waited out a fault is counted too.
LATENCY_BOUNDS_MS: Final = (
    *(10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000),
    *(300_000, 1_800_000, 7_200_000),
)
#: The same bounds in seconds, for the time from enqueue to receipt.
LATENCY_BOUNDS_S: Final = tuple(bound_ms / 1000 for bound_ms in LATENCY_BOUNDS_MS)

#: The steps of a batch, in their order, and what each does.
STEPS: Final = {
    "read": "read the staged bytes",
    "check": "compare them with what was accepted; does the capture look bad?",
    "flock": "wait for a recovery of the repository",
    "find": "bring the history index up to date; is any of it in git already?",
    "objects": "make the commits, in memory",
    "pack": "write and sync the pack",
    "ref": "move the branch: the commit point",
    "index": "add to the history index",
    "receipts": "publish the receipts",
    "settle": "take the entries and their bytes out",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus sees it."""

    #: As it is scraped: a counter's ends with `_total`, a time is in seconds, a size in bytes.
    name: str
    help: str
    labels: tuple[str, ...] = ()
    #: The bounds of a histogram, without the last, infinite one.
    bounds: tuple[float, ...] = ()

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """Its type in Prometheus."""
        if self.bounds:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


def _counted(prefix: str, who: str) -> tuple[Metric, ...]:
    """What a worker and the whole deployment both count."""
    return (
        Metric(f"{prefix}_backups_committed_total", f"Backups that {who} committed."),
        Metric(
            f"{prefix}_backups_unchanged_total",
            f"Of the backups that {who} committed, those that are {states.UNCHANGED.word}: each "
            f"{states.UNCHANGED.meaning}.",
        ),
        Metric(
            f"{prefix}_backups_suspect_total",
            f"Of the backups that {who} committed, those that are {states.SUSPECT.word}: each "
            f"{states.SUSPECT.meaning}.",
        ),
        Metric(
            f"{prefix}_backups_dead_total",
            f"Backups of which {who} made a {states.DEAD.word}: each {states.DEAD.meaning}.",
        ),
        Metric(
            f"{prefix}_turns_retried_total",
            f"Turns of {who} that ended with a fault of the system; each is tried again.",
        ),
        Metric(
            f"{prefix}_commit_latency_seconds",
            f"Seconds from the enqueue of a backup to its receipt, of what {who} committed.",
            bounds=LATENCY_BOUNDS_S,
        ),
    )


_BY_WORKER: Final = _counted("confkeep_worker", "this worker")
(
    WORKER_COMMITTED,
    WORKER_UNCHANGED,
    WORKER_SUSPECT,
    WORKER_DEAD,
    WORKER_RETRIED,
    WORKER_LATENCY,
) = _BY_WORKER
#: What each worker serves at CONFKEEP_METRICS_PORT.
OF_WORKER: Final = (
    WORKER_ENQUEUED := Metric(
        "confkeep_worker_backups_enqueued_total",
        "Backups that this worker accepted for other Celery clients (backups.receive).",
    ),
    WORKER_REFUSED := Metric(
        "confkeep_worker_messages_refused_total",
        "Messages that this worker set aside: no worker acts on them.",
    ),
    *_BY_WORKER,
    WORKER_STEP := Metric(
        "confkeep_worker_step_seconds",
        "Seconds of each step of a batch that this worker committed.",
        ("step",),
        STEP_BOUNDS_S,
    ),
    WORKER_LOCK_WAIT := Metric(
        "confkeep_worker_lock_wait_seconds",
        "Seconds until this worker had a tenant lock.",
        bounds=STEP_BOUNDS_S,
    ),
    WORKER_LOCK_BUSY := Metric(
        "confkeep_worker_lock_busy_total",
        "Times that this worker found a tenant lock held by another process.",
    ),
    WORKER_SWEEP_AGE := Metric(
        "confkeep_worker_sweep_age_seconds",
        "Seconds since this worker's last sweep that succeeded, or since its start.",
    ),
)

_BY_ALL: Final = _counted("confkeep", "all workers")
(COMMITTED, UNCHANGED, SUSPECT, DEAD, RETRIED, LATENCY) = _BY_ALL
#: What the exporter reads from Redis at each scrape. All but `UP` are absent when it is away.
OF_REDIS: Final = (
    UP := Metric("confkeep_up", "Whether Redis answered and could be read (1) or not (0)."),
    VOLATILE := Metric(
        "confkeep_broker_volatile",
        "Whether Redis may lose what it acknowledged (1), as far as it tells a monitor: it keeps no append-only file, "
        "or evicts keys. How it syncs its file only workers ask: `broker.volatile` in their logs.",
    ),
    ENQUEUED := Metric(
        "confkeep_backups_enqueued_total",
        f"Backups that were accepted, and each {states.DEAD.word} that was put back.",
    ),
    *_BY_ALL,
    REFUSED := Metric(
        "confkeep_messages_refused_total",
        "Messages that all workers set aside: no worker acts on them.",
    ),
    COMMITTED_BYTES := Metric(
        "confkeep_committed_bytes_total",
        "Bytes of the committed backups, as they were handed over.",
    ),
    INBOX_BACKUPS := Metric(
        "confkeep_inbox_backups",
        "Backups that wait in the inboxes of a shard.",
        ("shard",),
    ),
    INBOX_BYTES := Metric(
        "confkeep_inbox_bytes", "Bytes of the backups that wait in a shard.", ("shard",)
    ),
    INBOX_AGE := Metric(
        "confkeep_inbox_oldest_age_seconds",
        "Seconds that the oldest backup of a shard has waited; 0 when none waits.",
        ("shard",),
    ),
    INBOX_FULL := Metric(
        "confkeep_inbox_full_ratio",
        "The part of what may wait in all inboxes that does; at 1 an enqueue is refused.",
    ),
    TENANT_BACKUPS := Metric(
        "confkeep_tenant_inbox_backups",
        "Backups that wait for a tenant; of the tenants with the oldest ones only.",
        ("tenant",),
    ),
    TENANT_BYTES := Metric(
        "confkeep_tenant_inbox_bytes",
        "Bytes that wait for a tenant; of the tenants with the oldest backups only.",
        ("tenant",),
    ),
    TENANT_AGE := Metric(
        "confkeep_tenant_inbox_oldest_age_seconds",
        "Seconds that a tenant's oldest backup has waited; of the tenants with the oldest ones only.",
        ("tenant",),
    ),
    WAITING := Metric("confkeep_inboxes_waiting", "Inboxes that are not empty."),
    FAILING := Metric(
        "confkeep_inboxes_failing",
        f"Tenants that are {states.AFTER_FAULT.word} or {states.STALLED.word}: each {states.AFTER_FAULT.meaning}.",
    ),
    STALLED := Metric(
        "confkeep_inboxes_stalled",
        f"Tenants that are {states.STALLED.word}: each {states.STALLED.meaning}.",
    ),
    DEAD_LETTERS := Metric(
        "confkeep_dead_letters", f"Backups of each of which a {states.DEAD.word} is kept."
    ),
    QUEUE := Metric("confkeep_queue_messages", "Messages that wait in a Celery queue.", ("queue",)),
    SWEEP_AGE := Metric(
        "confkeep_sweep_age_seconds",
        f"Seconds since a worker's last sweep; a {states.SILENT.word} one is left out after a minute where others serve its "
        "shards, else after an hour.",
        ("worker",),
    ),
    UNSERVED := Metric(
        "confkeep_shards_unserved",
        "Shards that no worker serves but silent ones.",
    ),
    HOOK_OFF := Metric(
        "confkeep_hook_off",
        "Whether a webhook was switched off (1) or is on (0): its receiver took nothing for three days, or "
        "wants no more.",
        ("hook",),
    ),
    HOOK_FAILING := Metric(
        "confkeep_hook_failing_seconds",
        "Seconds for which a webhook's receiver has taken nothing of what it was sent; 0 when all is well.",
        ("hook",),
    ),
    HOOKS_UNSERVED := Metric(
        "confkeep_hooks_unserved",
        "Webhooks that nobody sends to, since no `confkeep hooks run` runs.",
    ),
    SCRAPE := Metric(
        "confkeep_exporter_scrape_seconds", "Seconds that it took to read Redis for this."
    ),
)

#: What the exporter finds in the store, in the background. Absent where there is no store.
OF_STORE: Final = (
    TENANTS := Metric("confkeep_store_tenants", "Tenants that have a repository."),
    DEVICES := Metric("confkeep_store_devices", "Devices in the newest commits."),
    STALE := Metric(
        "confkeep_devices_stale",
        f"Devices that are {states.STALE.word}: each {states.STALE.meaning}, which is CONFKEEP_STALE_HOURS, or the "
        "exporter's --stale-after.",
    ),
    PACKS := Metric(
        "confkeep_repository_packs",
        "Packs of a tenant's repository; of the tenants with the most only.",
        ("tenant",),
    ),
    REPOSITORY_BYTES := Metric(
        "confkeep_repository_bytes",
        "Bytes of the packs of a tenant's repository; of the tenants with the most only.",
        ("tenant",),
    ),
    TENANT_INFO := Metric(
        "confkeep_tenant_info",
        "Always 1; `name` is what people call a tenant, or its id where none is known. Of the tenants that have "
        "figures of their own only.",
        ("tenant", "name"),
    ),
    STORE_BYTES := Metric("confkeep_store_bytes", "Bytes of the packs of all repositories."),
    STORE_FREE := Metric(
        "confkeep_store_free_bytes", "Bytes that may still be written to the store's disk."
    ),
    STORE_DISK := Metric(
        "confkeep_store_disk_bytes", "Bytes that the store's disk holds, taken and free."
    ),
    SKIPPED := Metric(
        "confkeep_repacks_skipped",
        "Repositories whose last repack, or the full one that was due, did not run.",
    ),
    UNREADABLE := Metric(
        "confkeep_repositories_unreadable",
        "Repositories that could not be read for these figures.",
    ),
    STORE_AGE := Metric(
        "confkeep_store_figures_age_seconds",
        "Seconds since the store was last looked through for these figures.",
    ),
)

#: What `confkeep http` adds to what the exporter tells.
OF_HTTP: Final = (
    HTTP_REQUESTS := Metric(
        "confkeep_http_requests_total",
        "Requests that this HTTP process answered.",
        ("method", "route", "status"),
    ),
    HTTP_SECONDS := Metric(
        "confkeep_http_request_seconds",
        "Seconds from a request's head to the end of its answer.",
        ("route",),
        STEP_BOUNDS_S,
    ),
)

ALL: Final = (*OF_WORKER, *OF_REDIS, *OF_STORE, *OF_HTTP)
