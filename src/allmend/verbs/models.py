"""`allmend models`: what can be had by a short name, what is here, and under which licence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmend.models.catalogue import catalogue
from allmend.models.fetch import fetched
from allmend.nouns.noun import Noun, Part


class Offer(Part):
    """A row of the catalogue."""

    name: str
    kind: Literal["model", "data"]
    title: str
    download_bytes: int
    licence: str
    terms: str | None = None
    here: str | None = None
    """Path of the verified file, if it was fetched."""


class Offers(Noun):
    """The catalogue."""

    schema_: str = Field("allmend.offers/1", alias="schema")
    offers: list[Offer]


def models() -> Offers:
    """Every model and data set of the catalogue, and whether it is here."""
    offers = []
    for kind, folder, entries in (("model", "models", catalogue().models), ("data", "data", catalogue().data)):
        for name, entry in entries.items():
            path = fetched(folder, name, entry)
            offers.append(
                Offer(
                    name=name,
                    kind="model" if kind == "model" else "data",
                    title=entry.title,
                    download_bytes=entry.download_bytes,
                    licence=entry.licence,
                    terms=entry.terms,
                    here=str(path) if path else None,
                )
            )
    return Offers(offers=offers)
