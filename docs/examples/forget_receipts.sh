#!/bin/sh
# Deletes all receipts from the broker: forget_receipts.sh VALKEY-CLI-OPTION...
# Use it when the store was put back to an older state: receipts would name commits that are gone, and
# an id that has a receipt is not committed again. What still waits is committed once all the same.
set -eu
valkey-cli "$@" --scan --pattern 'celery-task-meta-*' | xargs -r -n 500 valkey-cli "$@" unlink
