#!/bin/sh
# Copies a store to another place, while workers run: mirror_store.sh STORE MIRROR
# Run it as the workers' user, from cron. The first run copies everything, later runs only what is new.
set -eu
umask 077
store=$1
mirror=$2
mkdir -p "$mirror"
for repository in "$store"/*.git; do
    copy=$mirror/$(basename "$repository")
    if [ ! -d "$copy" ]; then
        # --no-local: a copy of its own, not hard links to the same files.
        git clone --quiet --mirror --no-local "$repository" "$copy.new"
        mv "$copy.new" "$copy"
    else
        git -C "$copy" fetch --quiet --prune "$repository" '+refs/*:refs/*'
    fi
    # These files are not in git, and cannot be rebuilt from it.
    for file in confkeep.rewritten confkeep.retention; do
        if [ -e "$repository/$file" ]; then
            cp -p "$repository/$file" "$copy/$file.new"
            mv "$copy/$file.new" "$copy/$file"
        else
            rm -f "$copy/$file"
        fi
    done
done
if [ -e "$store/confkeep.audit" ]; then
    cp -p "$store/confkeep.audit" "$mirror/confkeep.audit"
fi
