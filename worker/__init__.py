"""The runtime of confkeep: store, queue and command line; only `cli` imports `tasks`."""

__version__ = "0.1.0"
