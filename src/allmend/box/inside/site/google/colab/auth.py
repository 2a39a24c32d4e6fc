"""No Google account is handed to a notebook in the box."""

from google.colab import _box


class AuthorizationError(Exception):
    """Authentication was refused."""


def authenticate_user(clear_output: bool = True, project_id: object = None) -> None:
    """Refused, and recorded."""
    try:
        _box.ask("account")
    except _box.NotPermitted as error:
        raise AuthorizationError(str(error)) from None


def authenticate_service_account(clear_output: bool = True) -> None:
    """Refused, and recorded."""
    authenticate_user()
