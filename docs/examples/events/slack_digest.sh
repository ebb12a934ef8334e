#!/bin/sh
# What changed last night, in a channel of Slack; for cron:
#
#   0 6 * * 1-5  TENANT=acme DIGEST_URL=slack://TOKEN_A/TOKEN_B/TOKEN_C/#network slack_digest.sh
#
# On Mondays it tells of the weekend too. Nothing is sent where there is nothing to say.
set -eu
since=24h
[ "$(date +%u)" != 1 ] || since=72h
exec confkeep digest "$TENANT" --since "$since" --send "$DIGEST_URL"
