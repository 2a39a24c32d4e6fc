"""llama.cpp's server from xllamacpp's wheel, until it is ended: FILE PORT THREADS LORA..."""

from __future__ import annotations

import signal
import sys

import xllamacpp


def main() -> None:
    """Serve."""
    file, port, threads, *loras = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path, params.port = file, int(port)
    params.n_parallel, params.n_ctx = 32, 32 * 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.lora_init_without_apply = True
    adapters = []
    for path in loras:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = path, 1.0
        adapters.append(adapter)
    params.lora_adapters = adapters
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
