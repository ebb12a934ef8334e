"""How long the steps of a batch take."""

from __future__ import annotations

import time


class Stopwatch:
    """Sums the seconds of laps, by the name of the step that each lap ends. For one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, step: str) -> None:
        """End `step` now; the next one begins."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._since
        self._since = now
