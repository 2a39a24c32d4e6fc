"""`transformers` generation behind a port: whoever asks within 50 ms is one padded batch. PORT THREADS"""

from __future__ import annotations

import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

WAITING: queue.Queue[tuple[dict[str, Any], queue.Queue[dict[str, Any]]]] = queue.Queue()


def work(threads: int) -> None:
    """Take what waits and generate for all of it."""
    from allmend.models.loading import load
    from allmend.models.resolve import resolve

    torch.set_num_threads(threads)
    loaded = load(resolve("gemma-3-270m"), dtype="bfloat16")
    tokenizer, model = loaded.tokenizer, loaded.model
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    READY.set()
    while True:
        batch = [WAITING.get()]
        try:
            while len(batch) < 32:
                batch.append(WAITING.get(timeout=0.05))
        except queue.Empty:
            pass
        inputs = tokenizer([body["prompt"] for body, _ in batch], return_tensors="pt", padding=True)
        count = max(body["max_tokens"] for body, _ in batch)
        with torch.inference_mode():
            answer = model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        for (_, reply), row in zip(batch, answer, strict=True):
            text = tokenizer.decode(row[inputs["input_ids"].shape[1] :])
            reply.put({"choices": [{"text": text}], "usage": {"completion_tokens": count}})


READY = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One event, when the whole answer is there: generation of a batch does not stream."""

    def do_GET(self) -> None:
        """Health."""
        self.send_response(200 if READY.is_set() else 503)
        self.end_headers()

    def do_POST(self) -> None:
        """A completion."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply: queue.Queue[dict[str, Any]] = queue.Queue()
        WAITING.put((body, reply))
        event = reply.get()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    threading.Thread(target=work, args=(int(sys.argv[2]),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
