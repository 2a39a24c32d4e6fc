"""Every trick of training, each of which can be turned off. None changes what is computed, only how."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from allmend.errors import UsageError, nearest


@dataclass(frozen=True)
class Tricks:
    """What training uses where it can; all of it is held equal to the plain path in tests."""

    pack: bool = True
    """Rows laid end to end, attention row by row; off: one row a forward pass."""
    label_head: bool = True
    """Head and loss in one function that keeps no logits, only where a token is learned; off: torch's cross-entropy
    over logits of every position, or of what `top_layer_where_learned` leaves."""
    share_prefix: bool = True
    """What all rows of a pack begin with is worked out once."""
    lean_layers: bool = True
    """Decoder layers with a backward pass of their own, and LoRAs as borders of the frozen weights; off: the model's
    own layers and autograd."""
    native_chains: bool = True
    """Elementwise chains compiled, where there is a compiler; off: torch operations. Needs `lean_layers`."""
    top_layer_where_learned: bool = True
    """The last layer's output, MLP and all, only where a token is learned. Needs `lean_layers`."""
    stop_at_lowest: bool = True
    """Backward ends at the lowest layer with a LoRA. Needs `lean_layers`; autograd does it by itself."""

    @classmethod
    def without(cls, *names: str) -> Tricks:
        """All tricks but these.

        Raises:
            UsageError: there is no trick of that name.
        """
        known = [field.name for field in fields(cls)]
        for name in names:
            if name not in known:
                raise UsageError(f"there is no trick {name!r}", hint=nearest(name, known))
        return replace(cls(), **dict.fromkeys(names, False))

    @classmethod
    def none(cls) -> Tricks:
        """The plain path."""
        return cls.without(*(field.name for field in fields(cls)))

    @property
    def off(self) -> tuple[str, ...]:
        """Names of what is turned off."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))
