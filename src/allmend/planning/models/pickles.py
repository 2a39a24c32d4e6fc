"""What a pickle would import and call, read from its opcodes. Nothing is loaded; zip members are read with a bound."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

LARGEST = 64 * 2**20
"""Bytes of opcodes that are read of one pickle."""
MOST_OPCODES = 2_000_000
MOST_MEMBERS = 20_000

_HARMLESS = frozenset(
    {
        "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_device_tensor_from_numpy", "torch._utils._rebuild_sparse_tensor", "torch.Size", "torch.device",
        "torch._tensor._rebuild_from_type_v2", "torch.nn.parameter.Parameter", "torch._utils._rebuild_qtensor", "torch.Tensor",
        "torch._utils._rebuild_parameter_with_state", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray",
        "_codecs.encode", "builtins.set", "builtins.frozenset", "builtins.complex", "builtins.slice", "builtins.range",
        "builtins.bytearray", "copyreg._reconstructor", "copy_reg._reconstructor", "builtins.object", "__builtin__.object",
        "__builtin__.set", "argparse.Namespace", "datetime.datetime", "datetime.date", "datetime.timedelta", "decimal.Decimal",
        "pathlib.PosixPath", "pathlib.Path", "fractions.Fraction", "uuid.UUID",
    }
)  # fmt: skip
_TORCH_TYPES = frozenset(
    f"torch.{name}" for name in (
        "FloatStorage", "HalfStorage", "DoubleStorage", "LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage",
        "BoolStorage", "BFloat16Storage", "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
        "bool", "QInt8Storage", "QUInt8Storage", "UntypedStorage", "storage.UntypedStorage", "storage.TypedStorage",
    )
)  # fmt: skip
_DANGEROUS = ("os.", "posix.", "nt.", "subprocess.", "builtins.exec", "builtins.eval", "builtins.compile", "builtins.open",
              "builtins.__import__", "builtins.getattr", "builtins.setattr", "builtins.globals", "builtins.breakpoint", "sys.",
              "shutil.", "socket.", "runpy.", "importlib.", "pty.", "ctypes.", "webbrowser.", "requests.", "urllib.", "httpx.",
              "pickle.", "_pickle.", "marshal.", "code.", "codeop.", "timeit.", "cProfile.", "pdb.", "operator.attrgetter",
              "operator.methodcaller", "functools.partial", "types.", "torch.load", "torch.hub.", "numpy.testing.", "asyncio.",
              "multiprocessing.", "threading.", "http.", "ftplib.", "smtplib.", "tempfile.", "platform.", "pip.", "commands.",
              "__builtin__.exec", "__builtin__.eval", "__builtin__.compile", "__builtin__.open", "__builtin__.getattr",
              "__builtin__.__import__", "__builtin__.execfile", "builtins.execfile", "torch.jit.unsupported", "bdb.", "trace.",
              "doctest.", "unittest.", "site.", "linecache.", "cgi.", "ensurepip.", "venv.", "idlelib.", "lib2to3.")  # fmt: skip


@dataclass(slots=True)
class Opcodes:
    """What one pickle names: `module.name` of everything it imports."""

    imports: dict[str, None] = field(default_factory=dict)
    calls: int = 0
    unread: str | None = None
    """Why the rest was not read."""

    def dangerous(self) -> list[str]:
        """Imports that run programs or reach files and network."""
        return [name for name in self.imports if name.startswith(_DANGEROUS) or name == "?"]

    def unusual(self) -> list[str]:
        """Imports that are neither tensors nor plain values; they run their package's code."""
        known = _HARMLESS | _TORCH_TYPES
        dangerous = set(self.dangerous())
        return [name for name in self.imports if name not in known and name not in dangerous]


def opcodes(data: bytes, found: Opcodes | None = None) -> Opcodes:
    """Read the opcodes of `data`, which may hold several pickles one after the other."""
    found = found or Opcodes()
    stream = BytesIO(data[:LARGEST])
    if len(data) > LARGEST:
        found.unread = f"only the first {LARGEST >> 20} MiB of its opcodes were read"
    budget = MOST_OPCODES
    strings: list[str] = []
    memo: dict[int, str] = {}
    try:
        while stream.tell() < min(len(data), LARGEST):
            for opcode, argument, _ in pickletools.genops(stream):
                budget -= 1
                if budget <= 0:
                    found.unread = f"it holds more than {MOST_OPCODES:,} opcodes; the rest was not read"
                    return found
                _note(found, opcode.name, argument, strings, memo)
            following = stream.read(1)
            if following not in (b"\x80", b"(", b"]", b"}", b"c"):
                break
            stream.seek(-1, 1)
    except (ValueError, IndexError, KeyError, OverflowError, EOFError, UnicodeDecodeError, MemoryError) as error:
        found.unread = found.unread or f"its opcodes end in the middle or are broken ({type(error).__name__})"
    return found


def _note(found: Opcodes, name: str, argument: object, strings: list[str], memo: dict[int, str]) -> None:
    if name in ("GLOBAL", "INST"):
        found.imports[str(argument).replace(" ", ".", 1)] = None
    elif name == "STACK_GLOBAL":
        found.imports[".".join(strings[-2:]) if len(strings) > 1 else "?"] = None
    elif name in ("REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"):
        found.calls += 1
    elif name in ("EXT1", "EXT2", "EXT4"):
        found.imports["?"] = None
    if isinstance(argument, str) and name not in ("GLOBAL", "INST"):
        strings.append(argument)
        del strings[:-64]
    elif name in ("MEMOIZE",) and strings:
        if len(memo) < 200_000:
            memo[len(memo)] = strings[-1]
    elif name in ("BINPUT", "LONG_BINPUT", "PUT") and strings and isinstance(argument, int):
        if len(memo) < 200_000:
            memo[argument] = strings[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET") and isinstance(argument, int) and argument in memo:
        strings.append(memo[argument])
        del strings[:-64]


def of_file(path: Path) -> Iterator[tuple[str, Opcodes]]:
    """The pickles in a file: the file itself, or those inside a zip (torch's format), by member name."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        yield from _zipped(path)
        return
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if start[:1] == b"\x80" or start[:1] in (b"(", b"c", b"]", b"}"):
        yield path.name, opcodes(data)
    else:
        found = Opcodes(unread="it is no pickle that can be recognised (compressed, or another format)")
        yield path.name, found


def _zipped(path: Path) -> Iterator[tuple[str, Opcodes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                yield path.name, Opcodes(unread=f"the archive lists {len(members):,} members; it was not read")
                return
            pickles = [member for member in members if member.filename.endswith((".pkl", ".pickle"))]
            for member in pickles[:64]:
                # A header may lie about the size: no more than the bound is ever unpacked.
                with archive.open(member) as file:
                    yield member.filename, opcodes(file.read(LARGEST + 1))
            if any(member.filename.endswith(".py") for member in members):
                yield "code/", Opcodes(imports={"torch.jit": None})
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError, MemoryError) as error:
        yield path.name, Opcodes(unread=f"the archive is broken ({type(error).__name__})")
    except Exception as error:  # zlib.error and lzma errors have no common base
        yield path.name, Opcodes(unread=f"the archive cannot be unpacked ({type(error).__name__})")
