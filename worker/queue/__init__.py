"""A tenant's inbox in Redis, from the door to the receipt."""
