"""GGUF, as llama.cpp and what is built on it read it: the merged model in several number formats, and the adapter.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Simple formats are quantised by the `gguf`
package; K-quants, which it only reads, by llama.cpp's own routine in xllamacpp's library, each tensor checked
against the package's reading of it.
"""
