"""Logs and traces. Importing them configures nothing."""
