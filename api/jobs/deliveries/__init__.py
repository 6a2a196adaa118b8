"""Resource `/jobs/{id}/deliveries`: the deliveries to the webhook of a job.

May import `api.deps`, the modules below it and `core`.
"""
