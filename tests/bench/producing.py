"""A deployment of which this process is the producer, for as long as something is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.fleet import folder
from tests.integration.conftest import forget_environment
from tests.servers import Deployment, deployment


@contextmanager
def producing(**variables: str) -> Iterator[Deployment]:
    """A server whose producer this process is."""
    with folder() as where, deployment(where, **variables) as deployed, producer_of(deployed):
        yield deployed


@contextmanager
def producer_of(deployed: Deployment) -> Iterator[None]:
    """Let this process produce for a deployment for a while."""
    before = dict(os.environ)
    os.environ.update(deployed.environment)
    forget_environment()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        forget_environment()
