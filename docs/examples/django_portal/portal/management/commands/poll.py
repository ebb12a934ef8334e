"""`manage.py poll`: captures every device; run it from cron, a systemd timer or Celery beat."""

import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand

from portal.handover import resend, save_capture
from portal.models import Device


class Command(BaseCommand):
    """Poll all devices."""

    help = "Captures every device and hands the captures to confkeep."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Send first what an earlier poll could not."""
        resend()
        hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
        for device in Device.objects.all():
            # Your code: SSH, API ...
            export = f"# by RouterOS 7.16\n/system identity\nset name={device.name}\n"
            save_capture(device, hour, export, None)
