"""The queue under faults: a producer, workers, a broker and a disk that fail at random by a seed."""
