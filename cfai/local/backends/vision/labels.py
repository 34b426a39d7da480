"""The names of the classes that models know: ImageNet's 1,000 and COCO's 80.

Sources: pytorch.org, torchvision 0.29, `models/_meta.py` (BSD-3-Clause); cocodataset.org, the
detection task.
"""

from importlib.resources import files


def read_labels(file_name: str) -> list[str]:
    """Return the lines of a file in `cfai/local/data`, in the order of the model's outputs."""
    return files("cfai.local").joinpath("data", file_name).read_text("utf-8").splitlines()
