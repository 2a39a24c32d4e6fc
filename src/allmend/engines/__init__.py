"""What turns requests into answers: a protocol per task, and the engines that fulfil it.

`text` is the protocol for language models; `torch/` is our own engine for it. Nothing is imported from here,
so that a caller loads only the engine it uses.
"""
