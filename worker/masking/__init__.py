"""Masking: a text as it is shown to people who may not see its secrets."""
