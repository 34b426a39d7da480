"""Embedding on many machines: a callable for the workers of Dask, Ray Data and Daft."""

from cfai.distributed._embedder import ClientOptions, Embedder

__all__ = ["ClientOptions", "Embedder"]
