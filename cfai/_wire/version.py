"""The installed version. Reading it is slow, so this module is imported only when needed."""

from importlib.metadata import version

__version__ = version("cfai")
