"""Resource `/jobs/{id}/report`: the evaluation of a job, as JSON and as a page with charts."""
