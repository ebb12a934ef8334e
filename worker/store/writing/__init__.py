"""From a batch to `main` in one durable step."""
