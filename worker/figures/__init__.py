"""What the exporter, `confkeep status` and HTTP tell of a whole deployment."""
