"""The HTTP door: tokens, routes and problem documents, over the same engine as the command line."""
