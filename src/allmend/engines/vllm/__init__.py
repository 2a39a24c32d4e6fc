"""vLLM, where it is installed on a GPU, as a text engine. Nothing is imported from here."""
