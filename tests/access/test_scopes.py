"""Scopes and roles as a matrix: what is granted against what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.access import accounts, identify, keys
from allmend.access.principal import Principal, operator
from allmend.access.scopes import KNOWN, anywhere, check, covers
from allmend.errors import NotFound, UsageError

MATRIX = [
    ("*", "hub:admin", "a/b", True),
    ("*", "serve:chat", None, True),
    ("serve:chat", "serve:chat", None, True),
    ("serve:chat", "serve:chat", "gemma", True),
    ("serve:chat", "serve:read", None, True),
    ("serve:chat", "serve:embeddings", None, False),
    ("serve:chat", "hub:read", "a/b", False),
    ("serve:admin", "serve:embeddings", None, True),
    ("serve:chat:gemma", "serve:chat", "gemma", True),
    ("serve:chat:gemma", "serve:chat", "gemma:mine", True),
    ("serve:chat:gemma", "serve:chat", "gemma2", False),
    ("serve:chat:gemma", "serve:chat", None, False),
    ("hub:write", "hub:read", "a/b", True),
    ("hub:read", "hub:write", "a/b", False),
    ("hub:write:anna", "hub:write", "anna/film", True),
    ("hub:write:anna", "hub:write", "annabel/film", False),
    ("hub:write:anna", "hub:write", "anna", True),
    ("hub:write:anna/film", "hub:read", "anna/film", True),
    ("hub:write:anna/film", "hub:write", "anna/other", False),
    ("hub:write:anna/film", "hub:write", "anna", False),
    ("hub:write:anna/film", "hub:admin", "anna/film", False),
    ("hub:admin:anna/film", "hub:write", "anna/film", True),
    ("app:run", "app:admin", None, False),
    ("access:admin", "access:usage", None, True),
    ("access:admin", "serve:chat", None, False),
]


@pytest.mark.parametrize(("granted", "asked", "resource", "allowed"), MATRIX)
def test_what_is_granted_covers_what_is_asked(granted, asked, resource, allowed):
    assert covers([granted], asked, resource) is allowed


@given(st.sampled_from(sorted(KNOWN)), st.sampled_from(sorted(KNOWN)), st.text("ab/:", min_size=1, max_size=5))
def test_a_narrowed_scope_never_covers_more_than_the_whole_one(granted, asked, resource):
    if covers([f"{granted}:{resource}"], asked, resource):
        assert covers([granted], asked, resource)
    assert not covers([f"{granted}:{resource}"], asked, None)
    assert anywhere([f"{granted}:{resource}"], asked) == covers([granted], asked, resource)


@pytest.mark.parametrize("wrong", ["serve:chatt", "chat", "", "hub:write:", "hub:write:../x", "hub:write:a b", "**"])
def test_scopes_that_are_not_known_are_refused(wrong):
    with pytest.raises(UsageError):
        check([wrong])


def test_the_nearest_scope_is_named_and_none_is_no_key():
    with pytest.raises(UsageError) as caught:
        check(["serve:chatt"])
    assert "serve:chat" in (caught.value.hint or "")
    with pytest.raises(UsageError):
        check([])


ROLES = [
    (None, "hub:read", False),
    ("read", "hub:read", True),
    ("read", "hub:write", False),
    ("write", "hub:write", True),
    ("write", "hub:admin", False),
    ("admin", "hub:admin", True),
]


@pytest.mark.parametrize(("role", "scope", "allowed"), ROLES)
def test_a_role_and_a_scope_are_both_needed(role, scope, allowed):
    accounts.create("anna")
    accounts.create("team", kind="organisation")
    accounts.set_role("team", "anna", role)
    wide = identify(keys.create("anna", "wide", scopes=["hub:admin"]).text)
    narrow = identify(keys.create("anna", "narrow", scopes=["serve:chat"]).text)
    assert wide is not None and narrow is not None
    assert wide.permits(scope, "team/model") is allowed
    assert narrow.permits(scope, "team/model") is False
    assert wide.permits(scope, "anna/model") is True
    assert wide.permits(scope, "stranger/model") is False


def test_the_operator_may_do_everything():
    assert operator().permits("hub:admin", "any/thing") and operator().allows("access:admin")
    assert not Principal("anna", None, ("serve:chat",)).permits("hub:read", "anna/x")


def test_accounts_share_one_room_of_names():
    accounts.create("Anna")
    with pytest.raises(UsageError, match="taken"):
        accounts.create("anna", kind="organisation")
    assert accounts.get("ANNA").name == "Anna"
    with pytest.raises(NotFound) as caught:
        accounts.get("Hanna")
    assert "Anna" in (caught.value.hint or "")
    for wrong in ("", "-a", "a-", "a..b", "a/b", "a b", "x" * 97, "é"):
        with pytest.raises(UsageError):
            accounts.create(wrong)


def test_only_organisations_have_members():
    accounts.create("anna")
    accounts.create("team", kind="organisation")
    with pytest.raises(UsageError):
        accounts.set_role("anna", "anna", "read")
    with pytest.raises(UsageError):
        accounts.set_role("team", "team", "read")
    accounts.set_role("team", "anna", "write")
    assert accounts.members("team") == {"anna": "write"}
    accounts.set_role("team", "anna", None)
    assert accounts.members("team") == {}
