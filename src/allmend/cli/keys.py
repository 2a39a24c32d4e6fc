"""`allmend keys`: who may use what is served here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from allmend.cli.columns import plain, print_columns
from allmend.cli.show import notes, out, print_json
from allmend.verbs.keys_create import KeysCreateSettings, keys_create
from allmend.verbs.keys_limits import KeysLimitsSettings, keys_limits

app = App(name="keys", help="Who may use what you serve: keys, scopes, limits, accounts, the audit log.")


@app.default
def list_command(*, account: str | None = None, revoked: bool = False, json: bool = False) -> None:
    """List keys, newest first; never their secrets, which are not kept.

    Parameters
    ----------
    account
        Only keys of this account.
    revoked
        Those that were revoked, too.
    json
        Print JSON.
    """
    from allmend.access import keys

    found = keys.list_all(account=account, revoked=revoked)
    if json:
        print_json([key.to_dict() for key in found])
        return
    if not found:
        notes().print("No keys yet: `allmend keys create NAME` makes one.", markup=False)
        return
    rows = [
        [
            f"allm_{key.id}",
            key.name,
            key.account,
            key.state(),
            " ".join(key.scopes),
            key.limits.words() or "none",
            _when(key.expires) if key.expires else "never",
            _when(key.last_used) if key.last_used else "never",
        ]
        for key in found
    ]
    print_columns(["key", "name", "account", "state", "scopes", "limits", "expires", "last used"], rows)


@app.command(name="create")
def create_command(
    name: str,
    /,
    *,
    settings: Annotated[KeysCreateSettings, Parameter(name="*")] = KeysCreateSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Make a key. It is shown this once: only its hash is kept.

    Parameters
    ----------
    name
        What you call it.
    json
        Print JSON.
    """
    made = keys_create(name, **dict(settings))
    if json:
        print_json({**made.key.to_dict(), "text": made.text})
        return
    out().print(made.text, markup=False)
    said = f"  of {made.key.account}, for {' '.join(made.key.scopes)}"
    limits = made.key.limits.words()
    notes().print(f"{said}; {limits}" if limits else said, style="dim", markup=False)
    notes().print("  Keep it now: it is not shown again.", style="dim")


@app.command(name="rotate")
def rotate_command(key: str, /, *, json: bool = False) -> None:
    """Give a key another secret, shown this once; the one before is refused, limits and users stay.

    Parameters
    ----------
    key
        Its public name, the beginning of it, or your name for it.
    json
        Print JSON.
    """
    from allmend.access import keys

    made = keys.rotate(key)
    if json:
        print_json({**made.key.to_dict(), "text": made.text})
        return
    out().print(made.text, markup=False)
    notes().print("  The secret before is refused from now on. Keep this one: it is not shown again.", style="dim")


@app.command(name="revoke")
def revoke_command(key: str, /, *, json: bool = False) -> None:
    """Refuse a key from now on; running servers follow within a second.

    Parameters
    ----------
    key
        Its public name, the beginning of it, or your name for it.
    json
        Print JSON.
    """
    from allmend.access import keys

    found = keys.revoke(key)
    if json:
        print_json(found.to_dict())
        return
    out().print(f"allm_{found.id} ({plain(found.name)}) of {found.account} is revoked", markup=False)


@app.command(name="limits")
def limits_command(
    key: str,
    /,
    *,
    settings: Annotated[KeysLimitsSettings, Parameter(name="*")] = KeysLimitsSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Change how much a key, or a user behind it, may do; running servers follow within a second.

    Parameters
    ----------
    key
        Its public name, the beginning of it, or your name for it.
    json
        Print JSON.
    """
    from allmend.access import users

    found = keys_limits(key, **dict(settings))
    user = users.get(found.id, settings.user) if settings.user and settings.user != "*" else None
    if json:
        values = {"user": settings.user, "limits": user.limits.stored(), "adapter": user.adapter} if user else {}
        print_json({**found.to_dict(), **values})
        return
    limits = user.limits if user else found.limits
    who = f"user {settings.user} of allm_{found.id}" if user else f"allm_{found.id} ({found.name})"
    adapter = f"; adapter {user.adapter}" if user and user.adapter else ""
    out().print(f"{who}: {limits.words() or 'no limits'}{adapter}", markup=False)


@app.command(name="scopes")
def scopes_command(*, json: bool = False) -> None:
    """List the scopes that a key can have.

    Parameters
    ----------
    json
        Print JSON.
    """
    from allmend.access.scopes import EVERYTHING, KNOWN

    known = {**KNOWN, EVERYTHING: "everything"}
    if json:
        print_json(known)
        return
    print_columns(["scope", "allows"], [[scope, words] for scope, words in known.items()])


@app.command(name="accounts")
def accounts_command(*, json: bool = False) -> None:
    """List people and organisations.

    Parameters
    ----------
    json
        Print JSON.
    """
    from allmend.access import accounts

    found = accounts.list_all()
    if json:
        print_json([account.to_dict() for account in found])
        return
    if not found:
        notes().print("No accounts yet: `allmend keys account NAME` makes one.", markup=False)
        return
    rows = [
        [
            each.name,
            each.kind,
            _when(each.created),
            "disabled" if each.disabled else "administrator" if each.administrator else "",
        ]
        for each in found
    ]
    print_columns(["name", "kind", "made", "state"], rows)


@app.command(name="account")
def account_command(
    name: str,
    /,
    *,
    kind: Literal["person", "organisation"] = "person",
    email: str | None = None,
    disable: bool | None = None,
    json: bool = False,
) -> None:
    """Make an account, or disable one.

    Parameters
    ----------
    name
        Its name, as in OWNER/NAME.
    kind
        A person or an organisation.
    email
        Where to write to.
    disable
        Refuse all its keys from now on; `--no-disable` takes that back.
    json
        Print JSON.
    """
    from allmend.access import accounts

    if disable is None:
        accounts.create(name, kind=kind, email=email)
    else:
        accounts.disable(name, disabled=disable)
    found = accounts.get(name)
    if json:
        print_json(found.to_dict())
        return
    out().print(f"{found.name}: {found.kind}{', disabled' if found.disabled else ''}", markup=False)


@app.command(name="role")
def role_command(
    organisation: str, person: str, role: Literal["read", "write", "admin", "none"], /, *, json: bool = False
) -> None:
    """Give a person a role in an organisation.

    Parameters
    ----------
    organisation
        The organisation's name.
    person
        The person's name.
    role
        What they may do there; `none` takes it away.
    json
        Print JSON.
    """
    from allmend.access import accounts

    accounts.set_role(organisation, person, None if role == "none" else role)
    found = accounts.members(organisation)
    if json:
        print_json(found)
        return
    for name, each in found.items():
        out().print(f"{name}  {each}", markup=False)


@app.command(name="audit")
def audit_command(*, actor: str | None = None, action: str | None = None, limit: int = 50, json: bool = False) -> None:
    """Show who did what, newest first.

    Parameters
    ----------
    actor
        Only what this account did.
    action
        Only this action, or those that begin so: `key.`.
    limit
        At most this many.
    json
        Print JSON.
    """
    from allmend.access import audit

    found = audit.read(actor=actor, action=action, limit=limit)
    if json:
        print_json([entry.to_dict() for entry in found])
        return
    if not found:
        notes().print("Nothing like that in the log.", markup=False)
        return
    rows = [[_when(entry.time), entry.actor, entry.action, entry.target, _said(entry.details)] for entry in found]
    print_columns(["when", "who", "did", "to", "with"], rows)


def _said(details: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in details.items() if value not in (None, "", [])}
    return ", ".join(
        f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in shown.items()
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
