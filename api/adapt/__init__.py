"""POST /adapt: pictures come in, a job goes out."""
