"""What HTTP and the read tasks ask of a store, and how much of it they show to whom."""
