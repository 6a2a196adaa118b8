"""The service over HTTP. Requests and answers are plain data (`job_calls`, `model_calls`, `answers`,
`reports`), what is done with them is written once (`operations`), and the clients only carry it out."""
