"""The runtime is the box."""

from google.colab import _box


def unassign() -> None:
    """End the run after this cell."""
    _box.ask("unassign")
    print("The run ends after this cell.")
