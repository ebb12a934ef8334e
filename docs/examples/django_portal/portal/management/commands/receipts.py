"""`manage.py receipts`: collects what became of the captures; run it every minute."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from portal.handover import collect_receipts, resend
from portal.models import Capture


class Command(BaseCommand):
    """Collect receipts."""

    help = "Writes into the database what became of the captures."

    def add_arguments(self, parser: CommandParser) -> None:
        """How long to wait for those that are not there yet, and whether to send them again."""
        parser.add_argument("--wait", type=float, default=0, metavar="SECONDS")
        parser.add_argument("--again", action="store_true", help="After the broker lost its data.")

    def handle(self, *_args: Any, wait: float, again: bool, **_options: Any) -> None:
        """Look once, or until all are there."""
        resend(accepted=again)
        until = time.monotonic() + wait
        while collect_receipts() and time.monotonic() < until:
            time.sleep(0.1)
        for capture in Capture.objects.exclude(sha="").select_related("device"):
            self.stdout.write(f"{capture.device.name} is committed as {capture.sha}")
