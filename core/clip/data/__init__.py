"""From image files to training batches and splits. Imports `config` and below, and `models` never."""
