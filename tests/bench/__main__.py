"""`python -m tests.bench [NAME...]`: run all benchmarks, or those whose module is named."""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys
import time

import pygit2

import tests.bench
from tests.bench.table import Row, print_table


def main() -> int:
    """Run the modules that have `rows()`, and print the table."""
    wanted = sys.argv[1:]
    rows: list[Row] = []
    start = time.monotonic()
    for module in pkgutil.iter_modules(tests.bench.__path__):
        if module.name.startswith("_") or (wanted and module.name not in wanted):
            continue
        found = importlib.import_module(f"tests.bench.{module.name}")
        for row in getattr(found, "rows", list)():
            rows.append(row)
            print("  ".join(filter(None, row.as_cells())), file=sys.stderr)
    print(
        f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, libgit2 {pygit2.LIBGIT2_VERSION}, "
        f"{time.monotonic() - start:.0f} s"
    )
    print_table(rows)
    return 0


sys.exit(main())
