"""Devices, and what became of each capture."""

import uuid

from django.db import models


class Device(models.Model):
    """A router that the portal polls."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    name = models.CharField(max_length=100)


class Capture(models.Model):
    """One poll of one device. It holds the bytes until they are in git."""

    #: The backup's id: the same poll of the same device always has the same id.
    id = models.UUIDField(primary_key=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE)
    polled_at = models.DateTimeField()
    #: Both are emptied when there is a receipt, or when none will come.
    export = models.TextField(null=True)
    binary = models.BinaryField(null=True)
    #: Whether the enqueue returned: from then on confkeep is responsible for the backup.
    accepted = models.BooleanField(default=False)
    #: From the receipt.
    sha = models.CharField(max_length=40, blank=True)
    lines_added = models.IntegerField(null=True)
    lines_removed = models.IntegerField(null=True)
    #: Why confkeep refused it, or cannot commit it.
    problem = models.TextField(blank=True)
