"""What producers import: hand over backups, wait for their receipts, and read what is kept."""
