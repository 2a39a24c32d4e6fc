"""mistral.rs behind the least HTTP that the comparison needs: FILE PORT NAME=ADAPTER...

Its wheel brings no server. Run by a Python of its own (MISTRALRS_PYTHON), where only `mistralrs` is installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mistralrs import ChatCompletionRequest, LoraAdapter, Runner, Which


class Handler(BaseHTTPRequestHandler):
    """An event for each piece of an answer."""

    runner: Runner

    def do_GET(self) -> None:
        """Health."""
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        """A completion, asked for as a chat whose template is the message alone: only chats are streamed."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = ChatCompletionRequest(
            messages=[{"role": "user", "content": body["prompt"]}], model="default", max_tokens=body["max_tokens"],
            temperature=0.0, stream=True, ignore_eos=True, adapter=body.get("adapter"),
        )  # fmt: skip
        self.send_response(200)
        self.end_headers()
        count = 0
        for piece in self.runner.send_chat_completion_request(request):
            for choice in piece.choices:
                count += 1
                self._event({"choices": [{"text": choice.delta.content or " "}]})
            usage = getattr(piece, "usage", None)
            count = usage.completion_tokens if usage else count
        self._event({"choices": [], "usage": {"completion_tokens": count}})

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def main() -> None:
    """Serve until ended."""
    file, port, *named = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    adapters = [LoraAdapter(alias, source) for alias, source in (each.split("=", 1) for each in named)]
    which = Which.GGUF(
        tok_model_id=None, quantized_model_id=str(file.parent), quantized_filename=file.name,
        **({"adapters": adapters} if adapters else {}),
    )  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write("{{ messages[0]['content'] }}")
        template.flush()
        Handler.runner = Runner(which=which, max_seqs=32, jinja_explicit=template.name)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
