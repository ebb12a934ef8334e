"""One tenant's repository: opened, recovered, read."""
