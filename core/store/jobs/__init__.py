"""Training jobs from the queue to their end, with events and outbox. Imports `registry` and below."""
