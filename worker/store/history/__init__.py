"""The history index: answers that git gives only by walking."""
