"""Redis as confkeep talks to it: connections, keys, scripts, locks, and which messages are ours."""
