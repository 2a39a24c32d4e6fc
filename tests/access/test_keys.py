"""Keys from their making to their end; what is kept of them, and who is let in by them."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text

from allmend import database
from allmend.access import accounts, audit, identify, keys, secret, users
from allmend.access.limits import Limits
from allmend.database.engine import BUSY_SECONDS
from allmend.errors import NotFound, Refused, Unavailable, UsageError
from allmend.redaction import redact


def make(account: str = "anna", name: str = "laptop", **more):
    if account not in {each.name for each in accounts.list_all()}:
        accounts.create(account)
    return keys.create(account, name, **{"scopes": ["serve:chat"], **more})


def test_a_key_says_who_it_is():
    made = make(limits=Limits(requests_per_minute=5))
    found = identify(made.text)
    assert found is not None
    assert (found.account, found.key, found.scopes) == ("anna", made.key.id, ("serve:chat",))
    assert found.limits.requests_per_minute == 5
    assert found.allows("serve:chat") and not found.allows("serve:admin")


def test_what_is_no_key_is_nobody():
    made = make()
    for wrong in (None, "", "x", made.text[:-1], made.text + "a", made.text.swapcase(), "allm_" + "é" * 56):
        assert identify(wrong) is None
    other = secret.new()
    assert identify(f"allm_{made.key.id}_{other.text.rpartition('_')[2]}") is None


def test_the_secret_is_nowhere(home):
    made = make()
    assert made.text not in repr(made) and made.text not in repr(secret.parse(made.text))
    secret_part = made.text.rpartition("_")[2]
    with database.reading() as connection:
        for table in ("api_keys", "audit", "accounts"):
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                assert secret_part not in str(tuple(row))
    assert secret_part not in str([key.to_dict() for key in keys.list_all()])
    assert redact(f"the key {made.text} was sent") == "the key [hidden] was sent"
    for file in home.glob("*") if home.exists() else ():
        assert secret_part.encode() not in file.read_bytes()


def test_a_revoked_key_is_refused_at_once():
    made = make()
    assert identify(made.text) is not None
    assert keys.revoke(made.key.id[:6]).state() == "revoked"
    assert identify(made.text) is None
    assert keys.list_all() == [] and len(keys.list_all(revoked=True)) == 1


def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered(monkeypatch):
    made = make()
    roles = accounts.roles

    def meanwhile(*given):
        monkeypatch.setattr(accounts, "roles", roles)
        keys.revoke(made.key.id)
        return roles(*given)

    monkeypatch.setattr(accounts, "roles", meanwhile)
    monkeypatch.setattr(keys, "FRESH_SECONDS", 1e9)
    keys.forget()
    assert identify(made.text) is not None  # It was none yet when it was read.
    assert identify(made.text) is None


def test_an_expired_key_is_refused():
    made = make(expires=time.time() + 3600)
    assert identify(made.text) is not None
    with database.writing() as connection:
        connection.execute(text("UPDATE api_keys SET expires = :now"), {"now": time.time() - 1})
    keys.forget()
    assert identify(made.text) is None and keys.get("laptop").state() == "expired"
    with pytest.raises(UsageError, match="expired"):
        make(expires=time.time() - 1)


def test_a_key_gets_another_secret_and_keeps_all_else():
    made = make(limits=Limits(forwarded_users=True))
    users.put(made.key.id, "u1", limits=Limits(tokens_per_day=9), adapter="hers")
    identify(made.text)
    changed = keys.rotate("laptop")
    assert identify(made.text) is None
    found = identify(changed.text)
    assert found is not None and (found.key, found.limits.forwarded_users) == (made.key.id, True)
    assert users.get(made.key.id, "u1") is not None and changed.text not in repr(changed)
    assert [entry.action for entry in audit.read(action="key.")] == ["key.rotate", "key.create"]
    keys.revoke(made.key.id)
    with pytest.raises(UsageError, match="revoked"):
        keys.rotate(made.key.id)


def test_an_error_names_no_secret():
    other = secret.new()
    for given in (other.text, other.text[:-1], f"{other.text}x"):
        with pytest.raises(NotFound) as caught:
            keys.revoke(given)
        assert other.id in str(caught.value.where) and other.text[18:24] not in f"{caught.value} {caught.value.where}"


def test_names_and_ends_that_could_not_be_shown_are_refused():
    for wrong in ("", "a\x1b[31m", "x" * 201):
        with pytest.raises(UsageError):
            make(name=wrong)
    with pytest.raises(UsageError, match="thousand years"):
        make(expires=1e15)


def test_a_database_that_cannot_be_written_refuses_nobody(monkeypatch):
    made = make()

    def full(**options):
        raise Unavailable("the disk is full")

    monkeypatch.setattr("allmend.database.writing", full)
    assert identify(made.text) is not None


def test_a_disabled_account_has_no_keys():
    made = make()
    accounts.disable("anna")
    assert identify(made.text) is None
    accounts.disable("anna", disabled=False)
    assert identify(made.text) is not None


def test_changed_limits_are_seen_and_written_down():
    made = make()
    identify(made.text)
    keys.set_limits("laptop", Limits(concurrent=2))
    found = identify(made.text)
    assert found is not None and found.limits.concurrent == 2
    assert [entry.action for entry in audit.read(action="key.")] == ["key.limits", "key.create"]


def test_names_lead_to_keys_and_doubtful_ones_do_not():
    first, second = make(), make(name="phone")
    assert keys.get("phone").id == second.key.id
    assert keys.get(f"allm_{first.key.id}_…").id == first.key.id
    with pytest.raises(NotFound) as caught:
        keys.get("fone")
    assert "phone" in (caught.value.hint or "")
    make(name="phone")
    with pytest.raises(UsageError, match="2 keys"):
        keys.get("phone")


def test_the_first_start_makes_one_administrator_whoever_comes_first():
    made = []
    threads = [threading.Thread(target=lambda: made.append(keys.first_administrator())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (key,) = [each for each in made if each is not None]
    found = identify(key.text)
    assert found is not None and found.administrator and found.allows("hub:admin", "any/thing")
    assert keys.first_administrator() is None


def test_nobody_gives_away_more_than_they_have():
    accounts.create("bert")
    mine = identify(make(scopes=["hub:write:anna", "serve:chat"]).text)
    assert mine is not None
    assert keys.create("anna", "narrow", scopes=["hub:read:anna/film"], within=mine)
    for account, scope in (("anna", "hub:write"), ("anna", "*"), ("anna", "hub:admin:anna"), ("bert", "serve:chat")):
        with pytest.raises(Refused):
            keys.create(account, "wide", scopes=[scope], within=mine)


def test_the_audit_log_cannot_be_changed():
    make()
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(Unavailable, match="append-only"), database.writing() as connection:
            connection.execute(text(statement))
    assert audit.read()


def test_a_line_of_the_log_stands_only_with_what_it_speaks_of():
    with pytest.raises(RuntimeError), database.writing() as connection:
        audit.note(connection, "anna", "thing.do", "x")
        raise RuntimeError
    assert audit.read(action="thing.") == []


def test_the_log_keeps_no_secrets():
    audit.record("anna", "thing.do", "with hf_" + "a" * 30, password="letmein", token="abc", count=3)
    (entry,) = audit.read(actor="anna")
    assert entry.target == "with [hidden]"
    assert entry.details == {"password": "[hidden]", "token": "[hidden]", "count": 3}


def test_users_behind_a_key():
    made = make(limits=Limits(forwarded_users=True, each_user=Limits(requests_per_minute=3)))
    assert users.get(made.key.id, "u1") is None
    users.put(made.key.id, "u1", limits=Limits(tokens_per_day=9), adapter="hers")
    found = users.get(made.key.id, "u1")
    assert found is not None and (found.adapter, found.limits.tokens_per_day) == ("hers", 9)
    assert users.named({"x-openwebui-user-id": " 12-a "}) == "12-a"
    assert users.named({"x-user-id": "a\nb"}) is None and users.named({}) is None
    utf8 = "José 李".encode().decode("latin-1")  # As a web server hands on what was sent in UTF-8.
    assert users.named({"x-user-id": utf8}) == "José 李" and users.named({"x-user-id": "Jos\xe9"}) == "José"


def test_wrong_limits_are_told():
    with pytest.raises(UsageError) as caught:
        Limits.of({"requests_per_minute": 0})
    assert caught.value.where == "--requests-per-minute"
    assert Limits.model_validate(Limits(concurrent=2, priority=1).stored()) == Limits(concurrent=2, priority=1)


def test_a_locked_database_keeps_nobody_waiting_who_has_a_key():
    made = make()
    keys._used.clear()
    with database.writing() as held:
        held.execute(text("UPDATE api_keys SET name = name"))
        assert identify(made.text) is not None  # When it was used is not written down, which can wait.
    keys._used.clear()
    assert identify(made.text) is not None and keys.get(made.key.id).last_used is not None
    with database.writing() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 1000 * BUSY_SECONDS
