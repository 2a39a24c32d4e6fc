"""Colab's language models are Colab's: nothing stands in for them."""


def generate_text(prompt: str = "", *args: object, **options: object) -> str:
    """Not here."""
    raise RuntimeError("google.colab.ai is a service of Colab; use a model of your own here (`allmend serve`)")


def list_models() -> list:
    """None."""
    return []
