"""What every request passes before its route. Imports `api.problems` only."""
