"""What lasts: tables and their transitions, blobs, the producer side of the queue."""
