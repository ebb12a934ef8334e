"""Start the command `confkeep` with the `worker` package that belongs to this installation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Final

#: Top-level packages of confkeep-worker; other projects use these names too.
_PACKAGES: Final = ("tasks", "worker")


def main() -> None:
    """Run the command line.

    Python would first find the user's own `tasks` or `worker` in the working directory or on
    PYTHONPATH, so both are loaded from where they were installed.
    """
    if os.getpid() == 1:
        # The kernel ends no container's first process by a signal that it does not handle, and what
        # handles it takes a second to import.
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    for home in _homes():
        if all((home / name / "__init__.py").is_file() for name in _PACKAGES):
            for name in _PACKAGES:
                _load(name, home)
            from worker.cli import main as run

            run()
            return
    sys.exit(
        "error: the command line and the workers are not installed\n"
        "hint: pip install 'confkeep[worker]'"
    )


def _homes() -> Iterator[Path]:
    """Where confkeep-worker may be: beside this package, else where pip says."""
    yield Path(__file__).parents[1]
    # Most need only the first, and a probe that starts every few seconds would wait for this import.
    from importlib import metadata

    try:
        yield Path(str(metadata.distribution("confkeep-worker").locate_file("")))
    except metadata.PackageNotFoundError:
        return


def _load(name: str, home: Path) -> None:
    known = sys.modules.get(name)
    if known is not None:
        if Path(known.__file__ or "").parent == home / name:
            return
        sys.exit(
            f"error: {known.__file__} is loaded in place of confkeep's own package `{name}`\n"
            "hint: something imports it when Python starts; take it off PYTHONPATH"
        )
    spec = PathFinder.find_spec(name, [str(home)])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
