"""The protocol without a socket: requests, answers, failures, chunks. Values in, values out."""
