"""The server for workers: tenant locks, rules for users, and which messages are ours."""
