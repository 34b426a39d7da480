"""The protocol of Workers AI without I/O: requests are built and responses are read."""
