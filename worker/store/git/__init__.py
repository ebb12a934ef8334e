"""Git's files and formats. Knows no backup."""
