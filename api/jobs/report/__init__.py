"""Resource `/jobs/{id}/report`: the evaluation of a job, as JSON and as a page with charts.

May import `api.deps`, the modules below it and `core`.
"""
