"""`run_with_cloudflared`: the app runs on its own port, which is shown."""

from flask_ngrok import run_with_cloudflared

__all__ = ["run_with_cloudflared"]
