"""What a call costs: cfai beside the bare libraries and the other clients, on the loopback.

Run it with `nox -s bench`, or `python -m tests.bench --help` where the packages of `peers.txt`
are installed. Nothing in here is imported by the package, and no test asserts a speed.
"""
