"""How a worker process starts, lives, tells of itself and ends."""
