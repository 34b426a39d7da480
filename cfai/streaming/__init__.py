"""An event stream to tokens, and tokens on to a browser."""
