"""The SDK: HTTP requests, responses and their types."""
