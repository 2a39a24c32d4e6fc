"""Attention over packs: rows laid end to end in one sequence, each attending to itself only.

Registered with transformers' attention interface under the name `allmend`, so that every architecture that goes
through that interface gets it. `PACKED` is that name; importing this package registers it.
"""

from __future__ import annotations

from allmend.models.attention.packed import PACKED, Segments, packed_attention, segments_of, use_packed

__all__ = ["PACKED", "Segments", "packed_attention", "segments_of", "use_packed"]
