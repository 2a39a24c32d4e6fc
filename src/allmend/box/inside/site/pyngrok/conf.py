"""Settings of a tunnel that is none: kept, and without effect."""


class PyngrokConfig:
    """Takes what pyngrok's takes."""

    def __init__(self, **options: object) -> None:
        self.auth_token = None
        self.region = None
        self.__dict__.update(options)


_default = PyngrokConfig()


def get_default() -> PyngrokConfig:
    """The settings."""
    return _default


def set_default(pyngrok_config: PyngrokConfig) -> None:
    """Keep these."""
    global _default
    _default = pyngrok_config
