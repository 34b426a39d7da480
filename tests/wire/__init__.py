"""Tests of the protocol floor: values in, values out, and no socket."""
