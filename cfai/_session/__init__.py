"""The session layer: credentials, connections, attempts, limits, pages and uploads."""
