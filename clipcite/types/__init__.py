"""The vocabulary of the project: requests and responses, and the types that several parts share."""
