"""The version that is installed. To ask for it takes its time, so it is asked for when needed."""

from importlib.metadata import version

__version__ = version("cfai")
