"""Secrets by name, as far as they were granted. Raises what Colab raises."""

from google.colab import _box


class SecretNotFoundError(Exception):
    """The secret does not exist."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Secret {key} does not exist.")


class NotebookAccessError(Exception):
    """The notebook was not granted the secret."""

    def __init__(self, key: str, why: str = "") -> None:
        super().__init__(f"Notebook does not have access to secret {key}. {why}".strip())


class TimeoutException(Exception):
    """Kept for code that catches it; the box answers at once."""


def get(key: str) -> str:
    """The value of a granted secret."""
    try:
        answer = _box.ask("userdata", name=str(key))
    except _box.NotPermitted as error:
        raise NotebookAccessError(key, str(error)) from None
    if answer.get("value") is None:
        raise SecretNotFoundError(key)
    return answer["value"]
