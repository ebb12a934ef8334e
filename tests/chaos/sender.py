"""`confkeep hooks run` as the tests want it: the product's own, with waits that fit into a minute.

Usage: python -m tests.chaos.sender
"""

from __future__ import annotations

from worker.cli import cli
from worker.hooks import delivery, progress

#: Seconds for a delivery, and between two tries.
_DELIVERY_S = 1.0
_FIRST_WAIT_S, _MOST_WAIT_S = 0.02, 0.4


def main() -> None:
    delivery.DELIVERY_S = _DELIVERY_S  # type: ignore[misc]
    progress.FIRST_WAIT_S = _FIRST_WAIT_S  # type: ignore[misc]
    progress.MOST_WAIT_S = _MOST_WAIT_S  # type: ignore[misc]
    cli.main(["hooks", "run"], prog_name="confkeep")


if __name__ == "__main__":
    main()
