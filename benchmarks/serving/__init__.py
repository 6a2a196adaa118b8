"""Speed of the service, against the bare network and other servers, and with many models."""
