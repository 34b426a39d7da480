"""Task handlers: each checks a request's fields, calls a backend, and builds the result.

One module per kind of task. `cfai.local.runs` lists which handler answers which task.
"""
