"""Permissions only ever grant: an empty file allows nothing, and what is taken out is gone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.box.egress.policy import Policy
from allmend.errors import InputError, Refused
from allmend.nouns.permissions import Permissions, covered

NAMES = [
    "a.example",
    "b.example",
    "x.b.example",
    "evil.test",
    "localhost",
    "169.254.169.254",
    "b.example.evil.test",
]
GRANTS = st.one_of(
    st.sampled_from(
        [f"host:{name}" for name in NAMES] + ["host:*.b.example", "host:*", "host:*.com", "host:", "host:a.example:22"]
    ),
    st.sampled_from(
        [
            "secret:TOKEN@a.example",
            "secret:TOKEN",
            "secret:bad name",
            "port:8080",
            "port:80",
            "read:/etc",
            "drive:~/d",
        ]
    ),
    st.text(max_size=30).map(lambda text: f"host:{text}"),
    st.text(max_size=30),
)
PROBES = [(name, port) for name in NAMES for port in (22, 80, 443, 8443)] + [
    ("", 443),
    ("*", 443),
    (".", 80),
    ("com", 443),
]


def allowed(permissions: Permissions) -> set[tuple[str, int]]:
    policy = Policy(permissions.network.hosts)
    found = set()
    for name, port in PROBES:
        try:
            policy.find(name, port)
        except Refused:
            continue
        found.add((name, port))
    return found


def test_an_empty_file_allows_nothing() -> None:
    empty = Permissions.from_toml("")
    assert allowed(empty) == set()
    assert (empty.files.read, empty.files.write, empty.secrets, empty.drive) == ([], None, {}, None)
    assert empty.devices.gpus == [] and empty.network.publish == []


@given(st.lists(st.tuples(st.booleans(), GRANTS), max_size=25))
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_edits_widens_what_an_empty_file_allows(edits: list[tuple[bool, str]]) -> None:
    """Grants are added and taken out in any order, through the file each time; what is open is what still
    stands there."""
    permissions = Permissions()
    for add, grant in edits:
        if add:
            try:
                permissions = permissions.with_grant(grant)
            except InputError:
                continue  # what is no permission grants nothing
        else:
            hosts = permissions.network.hosts[:-1]
            if not any(not covered(h, hosts) for s in permissions.secrets.values() for h in s.hosts if h != "*"):
                permissions = permissions.model_copy(
                    update={"network": permissions.network.model_copy(update={"hosts": hosts})}
                )
        permissions = Permissions.from_toml(permissions.to_toml())
        open_now = allowed(permissions)
        for name, port in open_now:
            shown = name if port in (80, 443) else f"{name}:{port}"
            assert covered(shown, permissions.network.hosts), (name, permissions.network.hosts)
        assert all(
            name not in ("localhost", "169.254.169.254") or name in permissions.network.hosts for name, _ in open_now
        )
    taken_out = Permissions.from_toml("")
    assert allowed(taken_out) == set()


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_host_pattern_allows_itself_and_what_is_beneath_its_star_or_is_refused(text: str) -> None:
    try:
        permissions = Permissions().with_grant(f"host:{text}")
    except InputError:
        return
    pattern = permissions.network.hosts[0]
    for name, _ in allowed(permissions):
        bare = pattern.partition(":")[0]
        assert name == bare or (bare.startswith("*.") and name.endswith(bare[1:]))


@pytest.mark.parametrize(
    "host",
    [
        "*",
        "*.",
        "*.com",
        "1.2.3.4",
        "[::1]",
        "127.1",
        "0x7f000001",
        "a b",
        "a/b",
        "http://a",
        "a:0",
        "a:99999",
        "",
        ".",
        "a..b",
        "-a.b",
        "a_b.*",
    ],
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises(InputError):
        Permissions.from_toml(f'[network]\nhosts = ["{host}"]\n')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[network]\nhost = []", "hosts"),
        ('[limits]\nmemory = "lots"', "size"),
        ('[secrets.A]\nhosts = ["a.example"]', "does not grant"),
        ('[files]\noutputs = ["../x"]', "inside"),
        ("[network", "TOML"),
        ("[network]\npublish = [80]", "1023"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Permissions.from_toml(text, where="p.toml")
    assert says in str(caught.value) and "p.toml" in str(caught.value)


def test_the_file_reads_back_as_it_was_written() -> None:
    permissions = Permissions(notebook='a"b\n.ipynb', sha256="0" * 64)
    for grant in (
        "host:a.example",
        "secret:T@b.example",
        "read:data x",
        "write:out",
        "output:*.png",
        "port:7860",
        "gpu:1",
        "drive-write:~/d",
        "finding:f1",
    ):
        permissions = permissions.with_grant(grant)
    assert Permissions.from_toml(permissions.to_toml()) == permissions


def test_a_secret_that_was_handed_over_narrows_for_good() -> None:
    policy = Policy(["a.example", "b.example", "c.example"], operator=["index.example:443"])
    policy.narrow("T", ["a.example", "b.example"])
    policy.narrow("U", ["b.example", "c.example"])
    assert policy.find("b.example", 443)
    # The owner's index takes uploads, too: it is no host the secret may go to.
    for name in ("a.example", "c.example", "index.example"):
        with pytest.raises(Refused):
            policy.find(name, 443)
