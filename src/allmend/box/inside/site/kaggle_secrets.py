"""Kaggle's way to secrets, answered by the box as `google.colab.userdata` is."""

from google.colab import _box


class BackendError(Exception):
    """The secret was not handed over."""


class CredentialError(Exception):
    """No account is handed over."""


class ValidationError(Exception):
    """The name is none."""


class UserSecretsClient:
    """Secrets by name, as far as they were granted."""

    def get_secret(self, label: str) -> str:
        """The value of a granted secret."""
        if not label:
            raise ValidationError("Label must be non-empty.")
        try:
            value = _box.ask("userdata", name=str(label)).get("value")
        except _box.NotPermitted as error:
            raise BackendError(str(error)) from None
        if value is None:
            raise BackendError(f"No user secrets exist for kernel id and label {label}.")
        return value

    def get_gcloud_credential(self) -> str:
        """Refused: no account is handed to a notebook."""
        raise CredentialError("a Google account is never handed to a notebook in the box")

    def set_gcloud_credentials(self, project: object = None, account: object = None) -> None:
        """Refused: no account is handed to a notebook."""
        self.get_gcloud_credential()
