"""All routes of the look-alike and of the ingest, in the order in which they are tried."""

from __future__ import annotations

from typing import Final

from worker.http.oxidized import ingest, node_lists, requests, texts

ROUTERS: Final = (node_lists.router, texts.router, requests.router, ingest.router)
