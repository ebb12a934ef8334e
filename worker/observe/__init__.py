"""What a worker tells: metrics, and errors that nobody foresaw."""
