"""A small portal as it was before confkeep: it commits backups in its own process."""
