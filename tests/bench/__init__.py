"""Benchmarks: `make bench` prints one table of ratios, each taken side by side in the same run."""
