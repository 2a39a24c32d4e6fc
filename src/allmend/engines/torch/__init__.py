"""Our text engine: one base model through transformers, many adapters, many requests in one step.

    engine.py      the `TextEngine`: takes requests, runs the thread
    scheduler.py   which sequences run in the next step, and which wait
    sequence.py    one request on its way: tokens, text, stop strings
    runner.py      the two forward passes: plain (one sequence a time, the oracle) and packed (all in one)
    pages.py       the key/value memory, in pages that sequences hold by number
    attention.py   attention of a packed step over pages, through transformers' attention interface
    lora.py        adapters on a packed step: one base matmul, a small one for each adapter
    sampling.py    from logits to the next token
    setup.py       putting it together: which forward pass, how much memory, and why

Nothing is imported from here.
"""
