#!/bin/sh
# Lets the broker forget what became of all backups: forget_receipts.sh VALKEY-CLI-OPTION...
# For a store that was put back to an older state: receipts would name commits that are gone, and an
# id that has one is not committed again. What still waits is committed once all the same.
set -eu
valkey-cli "$@" --scan --pattern 'celery-task-meta-*' | xargs -r -n 500 valkey-cli "$@" unlink
