"""The version of the SDK. The build reads it here, so it needs no installed metadata."""

__version__ = "0.2.0"
