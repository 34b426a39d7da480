"""Benchmarks: cfai compared with the bare libraries and with other clients, on the loopback.

Run them with `nox -s bench`, or with `python -m tests.bench` if the packages of `peers.txt` are
installed. The package imports nothing from here, and no test asserts a speed.
"""
