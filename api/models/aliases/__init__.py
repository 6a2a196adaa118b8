"""/models/{name}/aliases: pointers to versions, with history. Imports `deps` and below."""
