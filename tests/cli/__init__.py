"""Tests of the command line: real processes, pipes and terminals."""
