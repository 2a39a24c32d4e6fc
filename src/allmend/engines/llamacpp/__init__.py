"""llama.cpp, through the xllamacpp wheel, as a text engine: GGUF files as they are. Nothing is imported from here."""
