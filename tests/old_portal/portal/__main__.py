"""The portal as a program: it backs up what stands in a file, or shows a device.

python -m portal backup CAPTURES.json
python -m portal show TENANT DEVICE
"""

import json
import sys
from pathlib import Path
from typing import Any

from . import backups, pages


def main(command: str, *arguments: str) -> Any:
    """Run a command."""
    if command == "show":
        return pages.history(*arguments)
    captures = json.loads(Path(*arguments).read_text())
    return [backups.run_backup(capture) for capture in captures]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
