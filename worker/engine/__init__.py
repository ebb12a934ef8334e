"""What can be asked of confkeep: a turn, a history, a receipt, an erasure, a retention."""
