"""How fast the service answers, against the bare network, against what people do without it, and with many
models. See __main__.py."""
