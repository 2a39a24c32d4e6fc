"""What a pickle would import and call, read from its opcodes. Nothing is loaded; zip members are read with a bound."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from allmend.planning.models.opcodes import LARGEST, Opcodes, opcodes

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


def dangerous(codes: Opcodes) -> list[str]:
    """Imports that run programs or reach files and network."""
    return [name for name in codes.imports if name.startswith(_DANGEROUS) or name == "?"]


def unusual(codes: Opcodes) -> list[str]:
    """Imports that are neither tensors nor plain values; they run their package's code."""
    known = _HARMLESS | _TORCH_TYPES
    worse = set(dangerous(codes))
    return [name for name in codes.imports if name not in known and name not in worse]


def _objects(data: bytes) -> bytes | None:
    """The pickle in a NumPy file (NEP 1) whose array holds objects; None when it holds numbers."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        return None
    wide = data[6] >= 2
    length = int.from_bytes(data[8:12] if wide else data[8:10], "little")
    start = (12 if wide else 10) + length
    head = data[10:start][:10_000]
    return data[start:] if re.search(rb"['\"][<>=|]?O", head) else None


def of_file(path: Path) -> Iterator[tuple[str, Opcodes]]:
    """The pickles in a file: the file itself, or those inside a zip (torch's format), by member name."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        yield from _zipped(path)
        return
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if data[:6] == b"\x93NUMPY":
        inside = _objects(data)
        if inside is not None:
            yield path.name, opcodes(inside)
    elif start[:1] == b"\x80" or start[:1] in (b"(", b"c", b"]", b"}"):
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
            pickles = [member for member in members if member.filename.endswith((".pkl", ".pickle", ".npy"))]
            for member in pickles[:64]:
                # A header may lie about the size: no more than the bound is ever unpacked.
                with archive.open(member) as file:
                    data = file.read(LARGEST + 1)
                inside = _objects(data) if member.filename.endswith(".npy") else data
                if inside is not None:
                    yield member.filename, opcodes(inside)
            if len(pickles) > 64:
                yield path.name, Opcodes(unread=f"the archive holds {len(pickles)} pickles; 64 of them were read")
            if any(member.filename.endswith(".py") for member in members):
                yield "code/", Opcodes(imports={"torch.jit": None})
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError, MemoryError) as error:
        yield path.name, Opcodes(unread=f"the archive is broken ({type(error).__name__})")
    except Exception as error:  # zlib.error and lzma errors have no common base
        yield path.name, Opcodes(unread=f"the archive cannot be unpacked ({type(error).__name__})")
