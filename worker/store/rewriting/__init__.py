"""Taking versions out of a history: rules, rewrites, erasure and undo."""
