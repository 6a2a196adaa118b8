"""Jobs, models, owners and blobs, in a database and a storage. Imports nothing of `core.clip`, no torch."""
