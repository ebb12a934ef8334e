"""The runtime of confkeep: store, queue and command line; it imports `tasks` only in `cli` and `local`."""

__version__ = "0.1.0"
