"""The server: its keys, its scripts, and how a client reaches it."""
