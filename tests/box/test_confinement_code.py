"""The filter's program, interpreted for both architectures, and Landlock's rights by ABI: no kernel needed."""

from __future__ import annotations

import errno
import struct

import pytest

from allmend.box.inside import landlock, seccomp, syscalls


def interpret(code: bytes, architecture: int, number: int, args: tuple[int, ...] = ()) -> int:
    """A small classic-BPF machine: the action the kernel would take."""
    values = [*args, *[0] * (6 - len(args))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *[value & (2**64 - 1) for value in values])
    program = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    place = accumulator = 0
    for _ in range(len(program) + 1):
        op, yes, no, k = program[place]
        place += 1
        if op == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif op == 0x54:
            accumulator &= k
        elif op == 0x06:
            return k
        else:
            hit = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[op]
            place += yes if hit else no
    raise AssertionError("the program does not end")


def action(architecture: str, name: str, args: tuple[int, ...] = (), **options: object) -> int | None:
    number = syscalls.number(name, architecture)
    if number is None:
        return None
    code = seccomp.program(architecture, **options)  # type: ignore[arg-type]
    return interpret(code, syscalls.AUDIT_ARCH[architecture], number, args)


EPERM, ENOSYS = seccomp.ERRNO | errno.EPERM, seccomp.ERRNO | errno.ENOSYS
both = pytest.mark.parametrize("architecture", syscalls.ARCHITECTURES)


@both
def test_every_denied_call_is_refused(architecture: str) -> None:
    for name in syscalls.DENIED:
        assert action(architecture, name) in (EPERM, None), name
        assert action(architecture, name, watch=seccomp.WATCHED) in (seccomp.USER_NOTIF, None), name
    for name in syscalls.ABSENT:
        assert action(architecture, name) == ENOSYS


@both
def test_another_architecture_and_newer_calls_get_nowhere(architecture: str) -> None:
    code = seccomp.program(architecture)
    assert interpret(code, 0x40000003, 20) == seccomp.KILL_PROCESS
    assert interpret(code, syscalls.AUDIT_ARCH[architecture], syscalls.LAST_KNOWN + 1) == ENOSYS
    if architecture == "x86_64":
        assert interpret(code, syscalls.AUDIT_ARCH[architecture], 0x40000000 | 41) == seccomp.KILL_PROCESS


@both
@pytest.mark.parametrize("reduced", [False, True])
def test_only_plain_sockets_can_be_made(architecture: str, reduced: bool) -> None:
    def socket(*args: int) -> bool:
        return action(architecture, "socket", args, reduced=reduced) == seccomp.ALLOW

    assert socket(1, 1, 0) and socket(2, 1 | 0o4000, 6) and socket(10, 1, 0) and socket(16, 3, 0)
    assert socket(2, 2, 17) is not reduced
    assert socket(1, 2, 0) is not reduced
    for family in (3, 4, 15, 17, 29, 31, 38, 40, 44):
        assert not socket(family, 1, 0), family
    assert not socket(2, 3, 1) and not socket(2, 1, 262) and not socket(2, 1, 132) and not socket(16, 3, 9)
    pair = action(architecture, "socketpair", (1, 2, 0), reduced=reduced) == seccomp.ALLOW
    assert pair is not reduced


@both
def test_calls_that_are_looked_at_by_argument(architecture: str) -> None:
    assert action(architecture, "clone", (17,)) == seccomp.ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert action(architecture, "clone", (flag | 17,)) == EPERM
    assert action(architecture, "clone3") == ENOSYS
    assert action(architecture, "ioctl", (0, 0x5401)) == seccomp.ALLOW
    for command in (0x5412, 0x541C, 0xFFFFFFFF00005412):
        assert action(architecture, "ioctl", (0, command)) == EPERM
    assert action(architecture, "sendto", (3, 1, 1, 0x20000000)) == seccomp.ERRNO | errno.EOPNOTSUPP
    assert action(architecture, "sendto", (3, 1, 1, 0, 0), watch=seccomp.WATCHED) == seccomp.ALLOW
    assert action(architecture, "sendto", (3, 1, 1, 0, 1 << 40), watch=seccomp.WATCHED) == seccomp.USER_NOTIF


@both
def test_level_b_looks_at_what_landlock_does_not_know(architecture: str) -> None:
    watch = [*seccomp.WATCHED, *seccomp.EMULATED]
    for name in (*syscalls.DENIED_AT_B, *seccomp.EMULATED):
        assert action(architecture, name, reduced=True, watch=watch) in (seccomp.USER_NOTIF, None), name
    for name in syscalls.DENIED_AT_B:
        assert action(architecture, name, reduced=True) in (EPERM, None), name
        # At level A mounts, the ipc and the pid namespace do this work.
        assert action(architecture, name, watch=seccomp.WATCHED) in (seccomp.ALLOW, None), name


@both
@pytest.mark.parametrize("name", syscalls.AIMED)
def test_level_b_lets_a_process_aim_only_at_itself(architecture: str, name: str) -> None:
    def answer(*args: int) -> int | None:
        return action(architecture, name, args, reduced=True, watch=seccomp.WATCHED)

    if syscalls.AIMED[name] == 0:
        assert answer(0, 7) == seccomp.ALLOW
        assert answer(1234, 7) == seccomp.USER_NOTIF
    else:
        kind = 0 if name == "setpriority" else 1
        assert answer(kind, 0) == seccomp.ALLOW
        assert answer(kind, 1234) == seccomp.USER_NOTIF
        assert answer(2, 0) == answer(3, 0) == seccomp.USER_NOTIF  # a group's, a user's
    assert action(architecture, name, (1234, 1234), watch=seccomp.WATCHED) == seccomp.ALLOW


@both
def test_everyday_calls_pass(architecture: str) -> None:
    everyday = {"x86_64": (0, 1, 3, 9, 39, 60, 257, 262, 202), "aarch64": (63, 64, 57, 222, 172, 93, 56, 79, 98)}
    code = seccomp.program(architecture, watch=seccomp.WATCHED)
    for number in everyday[architecture]:
        assert interpret(code, syscalls.AUDIT_ARCH[architecture], number) == seccomp.ALLOW
    assert len(code) // 8 < 4096  # the kernel's bound


def test_the_tables_agree_with_the_generic_numbers() -> None:
    """From 424 on numbers are shared; below, no two names share one."""
    for place, architecture in enumerate(syscalls.ARCHITECTURES):
        numbers = [pair[place] for pair in syscalls.NUMBERS.values() if pair[place] is not None]
        assert len(numbers) == len(set(numbers)), architecture
    for name, (first, second) in syscalls.NUMBERS.items():
        if (first or 0) >= 424 or (second or 0) >= 424:
            assert first == second, name


@pytest.mark.parametrize(("abi", "bits"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (7, 16), (9, 17)])
def test_every_right_an_abi_knows_is_handled(abi: int, bits: int) -> None:
    assert landlock.handled(abi) == (1 << bits) - 1
    assert not landlock.SOCKETS & (landlock.MAKE_SYM | landlock.MAKE_REG | landlock.REFER | landlock.WRITE_FILE)
    assert not landlock.WORK & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK)
