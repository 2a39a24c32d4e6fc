"""The parsers and rules of the way out, on hostile bytes."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.box.egress import addresses, client_hello, dns, http


def hello(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wrapped = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        wrapped.do_handshake()
    return outgoing.read()


HELLO = hello("example.org")


@pytest.mark.parametrize("name", ["example.org", "a-b.c.example", None])
def test_the_server_name_is_read_at_every_cut(name: str | None) -> None:
    data = hello(name)
    for cut in range(0, len(data), 7):
        assert client_hello.server_name(data[:cut]) is None
    assert client_hello.server_name(data) == (name or "")


def test_a_hello_over_several_records() -> None:
    data = hello("example.org")
    body = data[5:]
    split = b"".join(
        b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in (body[:3], body[3:80], body[80:])
    )
    assert client_hello.server_name(split) == "example.org"


@given(st.binary(max_size=300), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_broken_hellos_are_refused_or_wait(noise: bytes, place: int) -> None:
    data = HELLO
    for candidate in (noise, b"\x16\x03\x01" + noise, data[:place] + noise + data[place + len(noise) :]):
        try:
            name = client_hello.server_name(candidate)
        except client_hello.NotTls:
            continue
        # What is no refusal is an honest answer: wait for more, or a name that stands in those very bytes.
        assert name is None or name.encode() in candidate.lower()
        if name is None:
            assert len(candidate) < client_hello.MOST + 5


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
     "::1", "::", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1",
     "::7f00:1", "198.18.0.1", "192.0.2.1", "240.0.0.1", "nonsense", "fe80::1%eth0"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "1.2.3.4.", "0177.0.0.1", "1.0x7f"]
)
def test_literals_in_every_spelling(host: str) -> None:
    assert addresses.is_literal(host)


def query(name: bytes, kind: int = 1) -> bytes:
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", kind, 1)


def test_names_get_their_own_address_and_others_do_not_exist() -> None:
    names = dns.Names()
    reply, name, granted = dns.answer(query(b"\x01A\x07example\0"), lambda n: n == "a.example", names)
    assert (name, granted) == ("a.example", True)
    address = ".".join(map(str, reply[-4:]))
    assert names.name(address) == "a.example" and address.startswith("127.77.")
    reply, name, granted = dns.answer(query(b"\x01b\x07example\0"), lambda n: False, names)
    assert reply[3] & 15 == 3 and not granted
    reply, _, _ = dns.answer(query(b"\x01a\x07example\0", 28), lambda n: True, names)
    assert reply[3] & 15 == 0 and reply[6:8] == b"\0\0"


@given(st.binary(max_size=600))
@settings(max_examples=400, deadline=None)
def test_no_datagram_breaks_the_name_server(data: bytes) -> None:
    names = dns.Names()
    for message in (data, query(data), struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + data):
        reply, name, granted = dns.answer(message, lambda n: True, names)
        assert len(reply) <= len(message) + 16
        assert not reply or (reply[:2] == message[:2] and reply[2] & 0x80)  # an answer to this very question
        assert not granted or name


@given(st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_no_head_breaks_the_request_reader(data: bytes) -> None:
    for head in (
        data + b"\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\n" + data + b"\r\n\r\n",
        b"CONNECT " + data + b" HTTP/1.1\r\n\r\n",
    ):
        for host in (None, "a.example"):
            try:
                request = http.parse(head, host=host)
            except http.BadRequest:
                continue
            assert host is None or request.host == host
            assert 0 < request.port < 65536 and not set(request.host) & set(" /\\@#?\r\n\0")
            if request.method != "CONNECT":
                sent = request.forward()
                assert sent.count(b"\r\nHost: ") == 1 and sent.endswith(b"\r\n\r\n")
                assert b"\r\n\r\n" not in sent[:-4]


def test_what_is_passed_on_says_one_thing() -> None:
    request = http.parse(
        b"POST http://A.example:8080/x?y HTTP/1.1\r\nHost: a.example:8080\r\nConnection: X\r\nTE: gzip\r\nContent-Length: 3\r\n\r\n"
    )
    sent = request.forward()
    assert sent.startswith(b"POST /x?y HTTP/1.1\r\nHost: a.example:8080\r\n")
    assert b"TE:" not in sent and b"te:" not in sent and sent.count(b"Connection") == 1
    assert request.length == 3
