"""Token streams: events to tokens, and tokens on to a browser."""
