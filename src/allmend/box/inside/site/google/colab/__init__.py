"""A stand-in for the parts of google.colab that notebooks use, answered by the box instead of by Colab."""

import importlib

__all__ = ["ai", "auth", "data_table", "drive", "files", "output", "runtime", "userdata", "widgets"]


def __getattr__(name: str) -> object:
    # Loaded when it is used: every kernel imports this package, few use more than one part of it.
    if name not in __all__:
        raise AttributeError(f"module 'google.colab' has no attribute {name!r}")
    return importlib.import_module(f"google.colab.{name}")
