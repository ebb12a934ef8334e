"""What producers use."""
