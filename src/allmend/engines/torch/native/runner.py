"""The forward pass of compiled code: all segments of a step in one call."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from allmend.engines.torch.lora import Lora, Uses
from allmend.engines.torch.native import abi
from allmend.engines.torch.native.parts import DecoderParts, LayerParts, angles
from allmend.engines.torch.native.weights import Tiled, tiled
from allmend.engines.torch.pages import Pages
from allmend.engines.torch.runner import PagedRunner, Segment, in_order, route

_KEY = "native"


class NativeRunner(PagedRunner):
    """Runs steps in compiled code.

    Args:
        parts: the decoder; its matrices are copied into tiles.
        kind: `float32`, `bfloat16`, `int8` or `int4`, of the matrices. Keys, values and adapters are kept in float32
            with float32 matrices, else in bfloat16.
        context: longest sequence.
    """

    def __init__(
        self, model: Any, parts: DecoderParts, pages: Pages, compiled: ctypes.CDLL, *, kind: str, context: int
    ) -> None:
        super().__init__(pages)
        self._compiled = compiled
        self._parts = parts
        self.kind = kind
        self._narrow = torch.float32 if kind == "float32" else torch.bfloat16
        self.threads = torch.get_num_threads()
        self._kept: list[Any] = []
        self._tables: dict[str, tuple[Tensor, Tensor]] = {
            layer.rotary: angles(model, layer.rotary, context) for layer in parts.layers
        }
        self._head = self._tiled([parts.head])
        layers = [self._layer(layer) for layer in parts.layers]
        self._layers = (abi.Layer * len(layers))(*layers)
        tied = parts.head.data_ptr() == parts.embedding.data_ptr()
        embedding = None if tied else self._keep(parts.embedding.detach().contiguous())
        if embedding is not None and embedding.dtype not in (torch.float32, torch.bfloat16):
            embedding = self._keep(embedding.float())
        self._head_structure = self._head.structure()
        self._model = abi.Model(
            len(layers), parts.hidden, parts.inner, self._head.rows,
            parts.query_heads, parts.kv_heads, parts.head_width, pages.size,
            parts.act, self._narrow == torch.bfloat16, self._narrow == torch.bfloat16, abi.KINDS[kind],
            parts.eps, parts.embed_scale,
            ctypes.addressof(self._layers), ctypes.addressof(self._head_structure),
            None if embedding is None else embedding.data_ptr(),
            embedding is not None and embedding.dtype == torch.bfloat16, 0,
            self._keep(parts.norm_final).data_ptr(),
        )  # fmt: skip
        self._room = compiled.room_new()
        self._logits = torch.empty(0, 0)
        self.best: list[tuple[int, float]] | None = None

    def __del__(self) -> None:
        if getattr(self, "_room", None):
            self._compiled.room_free(self._room)
            self._room = None

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that a step reads."""
        return sum(each.nbytes for each in self._kept if isinstance(each, Tiled))

    @torch.inference_mode()
    def run(self, segments: list[Segment]) -> list[Tensor]:
        """Float32 logits [keep, vocabulary] of each segment; valid until the next run.

        Where a segment asks for the best token only, its logits are empty, and `best` has what it asks for.
        """
        order = in_order(segments)
        ordered = [segments[place] for place in order]
        size = self.pages.size
        tokens: list[int] = []
        positions: list[int] = []
        table_at: list[int] = []
        slots: list[int] = []
        tables: list[int] = []
        keep: list[int] = []
        wanted: list[int] = []
        for segment in ordered:
            held, count, offset = segment.memory.pages, len(segment.tokens), len(tokens)
            tokens.extend(segment.tokens)
            places = range(segment.start, segment.start + count)
            positions.extend(places)
            slots.extend(held[place // size] * size + place % size for place in places)
            table_at.extend([len(tables)] * count)
            tables.extend(held[: self.pages.needed(segment.start + count)])
            keep.extend(range(offset + count - segment.keep, offset + count))
            wanted.extend([not segment.best_only] * segment.keep)
        routes, narrow = self._routes(ordered)
        columns = -(-self._head.rows // 16) * 16
        if self._logits.shape[0] < len(keep):
            self._logits = torch.empty(len(keep), columns)
        best = torch.empty(max(len(keep), 1), dtype=torch.int32)
        value = torch.empty(max(len(keep), 1))
        whole = [torch.tensor(each or [0], dtype=torch.int32) for each in (tokens, positions, table_at, tables, keep)]
        slot, want = torch.tensor(slots, dtype=torch.int64), torch.tensor(wanted or [0], dtype=torch.uint8)
        step = abi.Step(
            len(tokens), len(keep), whole[0].data_ptr(), whole[1].data_ptr(), whole[2].data_ptr(), slot.data_ptr(),
            whole[3].data_ptr(), whole[4].data_ptr(), want.data_ptr(), ctypes.addressof(routes), len(routes), narrow,
            max(positions) + 1, self._logits.data_ptr(), columns, best.data_ptr(), value.data_ptr(), self.threads, 0,
        )  # fmt: skip
        self._compiled.step(ctypes.byref(self._model), ctypes.byref(step), self._room)
        results: list[Tensor] = [self._logits] * len(segments)
        tops: list[tuple[int, float]] = [(0, 0.0)] * len(segments)
        bests, values = best.tolist(), value.tolist()
        row = 0
        for place, segment in zip(order, ordered, strict=True):
            end = row + segment.keep
            results[place] = self._logits[row:end, : self._head.rows]
            if segment.keep:
                tops[place] = (bests[end - 1], values[end - 1])
            row = end
        self.best = tops
        return results

    def forget(self, lora: Lora) -> None:
        """Drop an adapter's copy."""
        lora.prepared.pop(_KEY, None)

    def _routes(self, segments: list[Segment]) -> tuple[Any, int]:
        found: list[abi.Route] = []
        narrow = 0
        for first, end, uses in route(segments):
            for lora, scale in uses:
                table, rank = self._table(lora)
                found.append(abi.Route(first, end, ctypes.addressof(table), scale, rank, narrow))
                narrow += (end - first) * 3 * rank
        return (abi.Route * max(len(found), 1))(*found) if found else (abi.Route * 0)(), narrow

    def prepare(self, uses: Uses) -> None:
        """Lay adapters out before a step needs them."""
        for lora, _ in uses:
            self._table(lora)

    def _table(self, lora: Lora) -> tuple[Any, int]:
        found = lora.prepared.get(_KEY)
        if found is None:
            table = (abi.Low * (len(self._parts.layers) * len(abi.PARTS)))()
            kept, rank = [], 1
            for number, layer in enumerate(self._parts.layers):
                for place, name in enumerate(abi.PARTS):
                    pair = lora.modules.get(layer.names[name])
                    if pair is None:
                        continue
                    a, b = pair[0].to(self._narrow).contiguous(), pair[1].T.to(self._narrow).contiguous()
                    kept.append((a, b))
                    rank = max(rank, a.shape[0])
                    table[number * len(abi.PARTS) + place] = abi.Low(a.data_ptr(), b.data_ptr(), a.shape[0])
            found = lora.prepared[_KEY] = (table, rank, kept)
        return found[0], found[1]

    def _layer(self, layer: LayerParts) -> abi.Layer:
        linears = layer.linears

        def matrix(*names: str) -> abi.Matrix:
            chosen = [linears[name] for name in names]
            return self._tiled([each.weight for each in chosen], [each.bias for each in chosen]).structure()

        def at(name: str) -> int | None:
            norm = layer.norms[name]
            return None if norm is None else int(self._keep(norm).data_ptr())

        shape = (self.pages.count, self._parts.kv_heads, self.pages.size, self._parts.head_width)
        # Not zeroed: nothing is read that was not written, and what is not touched costs no memory yet.
        keys, values = (self._keep(torch.empty(shape, dtype=self._narrow)) for _ in range(2))
        cosine, sine = self._tables[layer.rotary]
        return abi.Layer(
            matrix("q_proj", "k_proj", "v_proj"), matrix("o_proj"), matrix("gate_proj", "up_proj"),
            matrix("down_proj"), at("norm_first"), at("norm_second"), at("norm_attended"), at("norm_fed"),
            at("norm_query"), at("norm_key"), cosine.data_ptr(), sine.data_ptr(), keys.data_ptr(), values.data_ptr(),
            layer.window, layer.scale, 0.0,
        )  # fmt: skip

    def _tiled(self, weights: list[Tensor], biases: list[Tensor | None] | tuple[()] = ()) -> Tiled:
        made = tiled(weights, self.kind, biases)
        self._kept.append(made)
        return made

    def _keep(self, tensor: Tensor) -> Tensor:
        self._kept.append(tensor)
        return tensor
