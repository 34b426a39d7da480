"""Python types <-> JSON. The only package that imports cattrs."""
