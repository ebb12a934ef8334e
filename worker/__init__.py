"""The runtime of confkeep: worker processes, engine, store, queue and command line."""

__version__ = "0.1.0"
