#!/bin/sh
# Copies a store file by file, while workers run: rsync_store.sh STORE COPY
# It copies branches first and objects afterwards, so that no branch names an object that was not copied.
set -eu
umask 077
store=$1
copy=$2
for _ in 1 2 3 4 5; do
    status=0
    rsync -a --delete --exclude='/.*' --exclude='*.lock' --exclude='tmp_*' \
        --exclude='/*.git/objects/' \
        --include='/*.git/confkeep.rewritten' --include='/*.git/confkeep.retention' \
        --exclude='/*.git/confkeep.*' "$store/" "$copy/" || status=$?
    if [ "$status" = 0 ]; then
        rsync -a --delete --exclude='tmp_*' --exclude='.tmp_*' --exclude='*.keep' --include='/*.git/' \
            --include='/*.git/objects/***' --exclude='*' "$store/" "$copy/" || status=$?
    fi
    # 24: files vanished while rsync copied them, as in a repack. Their objects are in other files now.
    [ "$status" = 24 ] || exit "$status"
done
exit 24
