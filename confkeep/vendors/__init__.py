"""What other makers' exports look like, as data: what changes by itself, and where secrets stand."""
