"""What a process tells: logs, metrics, traces, and errors that nobody foresaw."""
