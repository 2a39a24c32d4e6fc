"""Content-addressed storage: every byte of every repository, once.

Files are cut into chunks by their content, chunks are packed into xorbs, a file is a list of ranges of chunks. The
formats and hashes are those of the Xet protocol (its public specification, version 1.1), so what the stock client
uploads and what is put here by other ways share one store and one name.

    hashes      names: of chunks, xorbs, files
    gear        where a file is cut                      (compiled, or numpy)
    xorbs       the packed form of chunks
    shards      what a client says about its upload
    objects     the folder or bucket, through obstore
    folder      a folder's objects, without it
    tables      what is where, in SQL
    ingest      bytes -> chunks -> xorbs -> a file
    register    a client's shard, verified -> files
    reading     a file, or a range of it, rebuilt and verified
    collect     taking away what no commit reaches
"""

from __future__ import annotations

from allmend.hub.store.collect import Collected
from allmend.hub.store.store import Store
from allmend.hub.store.stored import Stored

__all__ = ["Collected", "Store", "Stored"]
