"""The service over HTTP. Requests and answers are plain data (`calls`, `answers`), what is done with them
is written once (`operations`), and `client` and `async_client` only carry it out."""
