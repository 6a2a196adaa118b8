"""Pre-trained models, their text and image features. Imports `data`, `checks`, `config` and below."""
