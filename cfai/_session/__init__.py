"""The session layer: everything between a request and the network.

credentials and addresses, connections, attempts and retries, timeouts, throttling, pagination,
uploads, translation of aiohttp's errors, redaction of secrets, observation.
"""
