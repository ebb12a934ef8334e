"""Git's files and formats, durable; it knows no backup."""
