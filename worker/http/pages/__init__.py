"""The pages: what changed, when, and what it means, for people with a browser."""
