"""HTTP for all resources: forms, JSON, problems and the OpenAPI document."""
