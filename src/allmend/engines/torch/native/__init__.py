"""A step of a decoder in one call of compiled code, for processors: weights in 32, 16, 8 or 4 bits, mixed adapters.

    kernels/       the C++: matrix products, adapters, attention over pages, the step
    build.py       compiling it on first use
    abi.py         its structures
    parts.py       recognising a decoder of the Llama family in a transformers model
    weights.py     laying its matrices out in tiles
    runner.py      the forward pass, with the protocol of `runner.PackedRunner`

What is computed for a token does not depend on what else is in the step, bit for bit: sums have a fixed order.
Nothing is imported from here.
"""
