"""What a worker tells: metrics, and unforeseen errors."""
