"""Python types <-> JSON: the only package that imports cattrs."""
