"""Logs and traces of whoever imports us; they configure nothing by themselves."""
