"""The names that code catches."""


class PyngrokError(Exception):
    """Never raised here."""


class PyngrokNgrokError(PyngrokError):
    """Never raised here."""


class PyngrokSecurityError(PyngrokError):
    """Never raised here."""
