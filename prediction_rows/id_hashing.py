"""How the ids of a table become numbers, for who writes a client in another language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hashing_of(columns: Mapping[str, Any]) -> str:
    """How ids are hashed, in a sentence; empty where there are none.

    Args:
        columns: what ``prediction_rows.open.columns_of`` gave.
    """
    schema = columns.get("schema", {})
    ids = [column for column in schema.get("columns", ()) if column["kind"] == "id"]
    if not ids:
        return ""
    sizes = ", ".join(f"{column['name']}: {column['buckets']}" for column in ids)
    return (
        "The feature of an id is the BLAKE2b digest of 8 bytes of its text in UTF-8, read as a "
        "little-endian whole number without a sign, modulo the column's buckets; a whole number "
        f"with .0 at its end is hashed without it; a missing id is the number of buckets ({sizes})."
    )
