"""What a person allows one notebook to do: a small TOML file that only ever grants.

An empty file allows nothing. Every line adds one thing, and taking the line out takes it away again.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from allmend.errors import InputError, nearest
from allmend.nouns.noun import Noun, Part
from allmend.nouns.permissions_toml import toml_lines

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def check_host(text: str) -> str:
    """A host grant: `name`, `*.suffix`, either with `:port`; raises ValueError for anything else.

    Names, not addresses: an IP literal is refused, and so is a wildcard over a whole top-level domain.
    """
    given = text
    text = text.strip().lower().rstrip(".")
    name, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{given!r}: the port must be a number from 1 to 65535")
    bare = name.removeprefix("*.")
    try:
        bare = bare.encode("idna").decode("ascii") if not bare.isascii() else bare
    except UnicodeError:
        raise ValueError(f"{given!r} is not a host name") from None
    labels = bare.split(".")
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{given!r} is not a host name (write example.org, *.example.org or example.org:8443)")
    if labels[-1].isdigit() or _is_address(bare):
        raise ValueError(f"{given!r}: hosts are granted by name, not by address")
    if name.startswith("*.") and len(labels) < 2:
        raise ValueError(f"{given!r} would allow a whole top-level domain; name a host or *.domain.tld")
    wild = "*." if name.startswith("*.") else ""
    return f"{wild}{bare}{colon}{port}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"0x[0-9a-f]+", text.rsplit(".", 1)[-1]) is not None
    return True


def _secret_host(text: str) -> str:
    return text if text == "*" else check_host(text)


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", value.strip().lower())
    if not match:
        raise ValueError(f"{value!r} is not a size; write it like 512M or 8G")
    return int(float(match[1]) * _UNITS[match[2]])


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", value.strip().lower())
    if not parts or "".join(n + u for n, u in parts) != value.strip().lower():
        raise ValueError(f"{value!r} is not a duration; write it like 90s, 15m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _clean_path(text: str) -> str:
    if not text or "\0" in text or any(ord(c) < 32 for c in text):
        raise ValueError(f"{text!r} is not a usable path")
    return text


def _inner_glob(text: str) -> str:
    _clean_path(text)
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r}: outputs are named relative to the working folder and stay inside it")
    return text


def _secret_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text):
        raise ValueError(f"{text!r} is not a usable name for a secret (letters, digits, underscore)")
    return text


Host = Annotated[str, AfterValidator(check_host)]
PathText = Annotated[str, AfterValidator(_clean_path)]
Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Port = Annotated[int, Field(gt=1023, lt=65536)]


class Network(Part):
    """Hosts that may be talked to, and local ports shown outside the box."""

    hosts: list[Host] = Field(default_factory=list)
    publish: list[Port] = Field(default_factory=list)


class Files(Part):
    """Folders and files shown read-only, and what comes out."""

    read: list[PathText] = Field(default_factory=list)
    """Files and folders, relative to the notebook's own folder or absolute."""
    write: PathText | None = None
    """The folder that receives the outputs; None takes nothing out."""
    outputs: list[Annotated[str, AfterValidator(_inner_glob)]] = Field(default_factory=list)
    """Globs, relative to the working folder, of what is taken out besides `outputs/**`."""


class Secret(Part):
    """One secret: from the environment variable of that name; once handed over, only `hosts` stay reachable."""

    hosts: list[Annotated[str, AfterValidator(_secret_host)]] = Field(default_factory=list)
    """Granted hosts this secret may go to; `*` means every granted host."""
    environment: bool = False
    """Put it into the kernel's environment from the start, instead of only answering `userdata.get`."""


class Drive(Part):
    """The folder that `drive.mount` shows."""

    folder: PathText
    write: bool = False


class Devices(Part):
    """Accelerators."""

    gpus: list[Annotated[int, Field(ge=0, lt=64)]] = Field(default_factory=list)


class Limits(Part):
    """Limits a person wrote. None takes the default, which may be lowered; a written one is kept or the run is
    refused."""

    memory: Bytes | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    processes: Annotated[int, Field(gt=3, le=1_000_000)] | None = None
    time: Seconds | None = None
    cell_time: Seconds | None = None
    disk: Bytes | None = None


class Accept(Part):
    """Findings of the plan that a person has read and accepts."""

    findings: list[str] = Field(default_factory=list)


class Permissions(Noun):
    """Everything one notebook is allowed; the empty value allows nothing."""

    schema_: Literal["allmend.permissions/1"] = Field("allmend.permissions/1", alias="schema")
    notebook: str | None = None
    sha256: str | None = None
    """Digest of the notebook these were written for; another notebook needs to be looked at again."""
    python: Annotated[str, Field(pattern=r"^3\.\d{1,2}$")] | None = None
    """The Python version it is run with, like `3.12`."""
    network: Network = Field(default_factory=Network)
    files: Files = Field(default_factory=Files)
    secrets: dict[Annotated[str, AfterValidator(_secret_name)], Secret] = Field(default_factory=dict)
    drive: Drive | None = None
    devices: Devices = Field(default_factory=Devices)
    limits: Limits = Field(default_factory=Limits)
    accept: Accept = Field(default_factory=Accept)

    @model_validator(mode="after")
    def _secrets_go_to_granted_hosts(self) -> Self:
        for name, secret in self.secrets.items():
            for host in secret.hosts:
                if host != "*" and not covered(host, self.network.hosts):
                    raise ValueError(f"secret {name} may go to {host}, but network.hosts does not grant {host}")
        return self

    @classmethod
    def from_toml(cls, text: str, where: str | None = None) -> Permissions:
        """Read the TOML form; raises `InputError` that names the line's key."""
        if len(text) > 1_000_000:
            raise InputError("the permissions file is larger than 1 MB", where=where)
        try:
            return cls.model_validate(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"this is not TOML: {error}", where=where) from None
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            hint = None
            if problem["type"] == "extra_forbidden":
                message = "there is no such permission"
                hint = nearest(str(problem["loc"][-1]), _known_keys(problem["loc"])) or None
            raise InputError(f"{key}: {message}" if key else message, where=where, hint=hint) from None

    def to_toml(self) -> str:
        """The TOML form, with a comment for each group; reading it back gives an equal value."""
        return "".join(toml_lines(self.to_dict()))

    def with_grant(self, grant: str) -> Permissions:
        """These permissions with one more, written as on the command line.

        `host:NAME`, `secret:NAME`, `secret:NAME@HOST`, `env:NAME@HOST` (the same, in its environment from the start),
        `read:PATH`, `write:FOLDER`, `output:GLOB`, `port:N`, `gpu:N`, `drive:FOLDER`, `drive-write:FOLDER`,
        `finding:ID`. Raises `InputError` for anything else.
        """
        kind, _, value = grant.partition(":")
        data = self.model_dump(by_alias=True)
        if not value or not _add_grant(data, kind, value):
            kinds = "host, secret, env, read, write, output, port, gpu, drive, drive-write, finding"
            raise InputError(
                f"{grant!r} is not a permission", where="--allow", hint=f"Kinds: {kinds}; e.g. host:example.org."
            )
        try:
            return type(self).model_validate(data)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise InputError(message, where=f"--allow {grant}") from None


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys that could stand where an unknown one was found."""
    groups: dict[object, type[Part]] = {
        "network": Network, "files": Files, "secrets": Secret, "drive": Drive,
        "devices": Devices, "limits": Limits, "accept": Accept,
    }  # fmt: skip
    found = groups.get(place[0]) if len(place) > 1 else None
    return [field.alias or name for name, field in (found or Permissions).model_fields.items()]


def covered(host: str, grants: list[str]) -> bool:
    """Whether a host pattern is inside what `grants` allow (`a.b.c` in `*.b.c`; a port only by the same port)."""
    name, _, port = host.partition(":")
    for grant in grants:
        granted, _, granted_port = grant.partition(":")
        if granted_port != port:
            continue
        if granted == name or (granted.startswith("*.") and name.removeprefix("*.").endswith(granted[1:])):
            return True
    return False


def _add_grant(data: dict[str, Any], kind: str, value: str) -> bool:
    lists = {
        "host": ("network", "hosts"),
        "read": ("files", "read"),
        "output": ("files", "outputs"),
        "finding": ("accept", "findings"),
    }
    if kind in lists:
        group, key = lists[kind]
        data[group][key] = [*data[group][key], value]
    elif kind in ("port", "gpu") and value.isascii() and value.isdigit() and len(value) < 6:
        group, key = ("network", "publish") if kind == "port" else ("devices", "gpus")
        data[group][key] = [*data[group][key], int(value)]
    elif kind in ("secret", "env"):
        name, at, host = value.partition("@")
        secret = data["secrets"].setdefault(name, {"hosts": [], "environment": False})
        secret["hosts"] = [*secret["hosts"], host] if at else [*secret["hosts"], "*"]
        secret["environment"] = secret["environment"] or kind == "env"
        if at and not covered(host, data["network"]["hosts"]):
            data["network"]["hosts"] = [*data["network"]["hosts"], host]
    elif kind in ("drive", "drive-write"):
        data["drive"] = {"folder": value, "write": kind == "drive-write"}
    elif kind == "write":
        data["files"]["write"] = value
    else:
        return False
    return True
