"""Proof that what was acknowledged survives: crash states, injected faults, rivals, full disks."""
