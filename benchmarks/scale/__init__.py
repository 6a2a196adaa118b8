"""Cost of the queue and of the API's queries with many jobs, on a real PostgreSQL."""
