"""Searchable documents: a folder of text, Markdown, HTML, PDF, notebooks, Word files as passages with embeddings.

reading   a file's text; runs in a process with limits, since files come from anywhere
passages  text cut into pieces that an embedding model reads whole
store     an index on disk: documents, passages, full-text search, vectors
build     bringing an index up to date with a folder, by digest
asking    passages by meaning and by word, joined
"""

from __future__ import annotations
