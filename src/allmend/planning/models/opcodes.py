"""The opcodes of a pickle: what it would import and call, worked out on a stack of names. Nothing is loaded."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from io import BytesIO

LARGEST = 64 * 2**20
"""Bytes of opcodes that are read of one pickle."""
MOST_OPCODES = 2_000_000
_DEEPEST = 200_000
_STRINGS = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
_MARK = object()
_SLICE = pickletools.stackslice
_MARKED = pickletools.markobject


@dataclass(slots=True)
class Opcodes:
    """What one pickle names: `module.name` of everything it imports."""

    imports: dict[str, None] = field(default_factory=dict)
    """In order; `?` is an import whose name is not written in the file."""
    calls: int = 0
    unread: str | None = None
    """Why the rest was not read."""


class _Machine:
    """The pickle machine's stack and memo, holding names only: strings, marks, and None for everything else."""

    def __init__(self, found: Opcodes) -> None:
        self.found = found
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Follow one opcode."""
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            self.found.imports[str(argument).replace(" ", ".", 1)] = None
        elif name == "STACK_GLOBAL":
            pair = self.stack[-2:]
            known = len(pair) == 2 and all(isinstance(piece, str) for piece in pair)
            self.found.imports[".".join(map(str, pair)) if known else "?"] = None
        elif name in ("EXT1", "EXT2", "EXT4"):
            self.found.imports["?"] = None
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            if len(self.memo) < _DEEPEST:
                place = len(self.memo) if name == "MEMOIZE" else argument
                self.memo[place if isinstance(place, int) else -1] = self.stack[-1] if self.stack else None
            return
        if name in ("REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "BUILD"):
            self.found.calls += 1
        self._move(opcode, argument)

    def _move(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Take what the opcode takes from the stack and put what it puts there."""
        top = self.stack[-1] if self.stack else None
        if _SLICE in opcode.stack_before:
            while self.stack and self.stack.pop() is not _MARK:
                pass
            taken = opcode.stack_before.index(_MARKED)
        elif opcode.name in ("POP", "DUP"):
            taken = 1
        else:
            taken = len(opcode.stack_before)
        if taken:
            del self.stack[-taken:]
        if opcode.name == "DUP":
            self.stack += [top, top]
        elif opcode.name == "MARK":
            self.stack.append(_MARK)
        elif opcode.name in _STRINGS:
            self.stack.append(argument)
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo.get(argument) if isinstance(argument, int) else None)
        else:
            self.stack.extend([None] * len(opcode.stack_after))
        if len(self.stack) > _DEEPEST:
            del self.stack[: _DEEPEST // 2]


def opcodes(data: bytes) -> Opcodes:
    """Read the opcodes of `data`, which may hold several pickles one after the other."""
    found = Opcodes()
    stream = BytesIO(data[:LARGEST])
    if len(data) > LARGEST:
        found.unread = f"only the first {LARGEST >> 20} MiB of its opcodes were read"
    budget = MOST_OPCODES
    try:
        while stream.tell() < min(len(data), LARGEST):
            machine = _Machine(found)
            for opcode, argument, _ in pickletools.genops(stream):
                budget -= 1
                if budget <= 0:
                    found.unread = f"it holds more than {MOST_OPCODES:,} opcodes; the rest was not read"
                    return found
                machine.step(opcode, argument)
            following = stream.read(1)
            if following not in (b"\x80", b"(", b"]", b"}", b"c"):
                break
            stream.seek(-1, 1)
    except (ValueError, IndexError, KeyError, OverflowError, EOFError, UnicodeDecodeError, MemoryError) as error:
        found.unread = found.unread or f"its opcodes end in the middle or are broken ({type(error).__name__})"
    return found
