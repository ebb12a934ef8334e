"""The runtime of confkeep: engine, store, queue and command line."""

__version__ = "0.1.0"
