"""What producers need of the queue: staging, acceptance, wake-ups and receipts."""
