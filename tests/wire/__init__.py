"""Tests of the protocol without I/O: values in, values out."""
