"""The evaluation of a job as JSON and as a page. Imports `deps` and below."""
