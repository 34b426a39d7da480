"""Opens models on onnxruntime."""

from pathlib import Path
from typing import Any


def open_session(model: Path | bytes, *, threads: int = 0) -> Any:
    """Open a model from a file or from its bytes; with 0 threads, it has one for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Otherwise its threads keep a core busy for a while after each run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
