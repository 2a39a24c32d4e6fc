"""pyngrok's calls, answered with the address at which the run's own port is shown: nothing leaves this machine."""

__version__ = "7.0.0"
