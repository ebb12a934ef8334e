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
    before = dict(os.environ)
    with folder() as where, deployment(where, **variables) as deployed:
        os.environ.update(deployed.environment)
        forget_environment()
        try:
            yield deployed
        finally:
            os.environ.clear()
            os.environ.update(before)
            forget_environment()
