"""Our embedding engine: rows of all requests packed without padding, attention per row.

    pooling.py   what a model's own sentence-transformers files say: pooling, normalising, limits, prompts
    encoder.py   the passes over a pack: lean (BERT's layers, fused), packed (any layers), plain (padded, the oracle)
    packs.py     which rows are computed together
    engine.py    the `EmbedEngine`: takes rows of many callers, runs the thread
    pairs.py     cross-encoders: relevance of a document to a question
    setup.py     putting it together: which pass, which precision, and why

Nothing is imported from here.
"""
