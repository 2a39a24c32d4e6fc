"""OpenSSF model signing with a bare key: a detached signature over every file, made and checked without a network."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from allmend.errors import InputError, NotFound, Unavailable
from allmend.releases.listing import ADDED, SIGNATURE, SIGNER

PASSWORD = "ALLMEND_SIGN_PASSWORD"
"""Environment variable with the password of an encrypted key."""

_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def make_key(path: Path) -> Path:
    """A new private key (P-256), readable by its owner only; its public half goes to `PATH.pub`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        raise InputError("there is a file of that name already; keys are never written over", where=str(path))
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    public = path.with_name(path.name + ".pub")
    public.write_bytes(_public(key.public_key()))
    return public


def load_key(path: Path) -> Any:
    """The private key in a PEM file; raises in words for what is no such key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.is_file():
        raise NotFound("there is no such key", where=str(path), hint="Make one: allmend ship key FILE")
    password = os.environ.get(PASSWORD)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password.encode() if password else None)
    except TypeError:
        raise InputError("the key needs a password", where=str(path), hint=f"Put it into {PASSWORD}.") from None
    except ValueError as error:
        raise InputError(f"this is no private key in PEM form: {error}", where=str(path)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise InputError("only keys on the curves P-256, P-384 and P-521 sign models", where=str(path),
                         hint="Make one: allmend ship key FILE")  # fmt: skip
    return key


def sign(folder: Path, key_file: Path) -> str:
    """Sign every file of the folder; returns the SHA-256 of the public key."""
    signing = _module("signing")
    key = load_key(key_file)
    password = os.environ.get(PASSWORD)
    public = _public(key.public_key())
    (folder / SIGNER).write_bytes(public)
    config = signing.Config().use_elliptic_key_signer(
        private_key=key_file, password=password.encode() if password else None
    )
    config.set_hashing_config(_hashing(folder)).sign(folder, folder / SIGNATURE)
    # One spelling only, so that every byte of the file has a meaning.
    (folder / SIGNATURE).write_text(_canonical(json.loads((folder / SIGNATURE).read_text("utf-8"))), "utf-8")
    return fingerprint(public)


def check(folder: Path, key: Path | None) -> tuple[str, list[str]]:
    """(SHA-256 of the key that signed, problems).

    Args:
        key: the public key that is trusted; without it the key that lies in the release is used, which says only
            that nothing changed since whoever holds that key signed.
    """
    verifying = _module("verifying")
    public = key or folder / SIGNER
    try:
        data = public.read_bytes()
    except OSError:
        raise NotFound("there is no such public key", where=str(public)) from None
    problems = []
    try:
        text = (folder / SIGNATURE).read_bytes().decode("utf-8")
        if _canonical(json.loads(text)) != text:
            problems.append(f"{SIGNATURE}: it was changed")
        named = (folder / SIGNER).read_bytes()
        if _read_public(named) != named:
            problems.append(f"{SIGNER}: it was changed")
        if key is not None and _read_public(named) != _read_public(data):
            problems.append(f"{SIGNER}: the release names another key than the one you trust")
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        config.set_hashing_config(_hashing(folder)).verify(folder, folder / SIGNATURE)
    except Exception as error:  # the library and its parsers raise what they like; all of it says "not signed so"
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        problems.append(f"{SIGNATURE}: the signature does not fit: {words[:200]}")
    return fingerprint(_read_public(data)) if not problems else fingerprint(data), problems


def fingerprint(public: bytes) -> str:
    """SHA-256 of a public key's PEM text."""
    return hashlib.sha256(public).hexdigest()


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def _read_public(data: bytes) -> bytes:
    """A public key as this module writes it, however it was written."""
    from cryptography.hazmat.primitives import serialization

    return _public(serialization.load_pem_public_key(data))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n"


def _hashing(folder: Path) -> Any:
    hashing = _module("hashing")
    ignored = [folder / name for name in (SIGNATURE, SIGNER, *ADDED)]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _module(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{name}")
    except ModuleNotFoundError:
        raise Unavailable("signatures need model-signing", hint="pip install 'allmend[ship]'") from None
