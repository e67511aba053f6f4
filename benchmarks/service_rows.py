"""Rows for an export, made up by what it says of its columns, and requests that hold them."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service_answers import Request, Truth

ROOT = Path(__file__).resolve().parents[1]
OBJECT = "a row as an object"
IDS = 10**6


class Pool:
    """Rows, and what the exports predict of them.

    Args:
        exports: folders, of the same columns.
        rows: how many.
        seed: of the rows.

    Attributes:
        names: of the columns.
        rows: cells as a JSON client has them.
        truth: what the exports predict of them, read from text: not the way that the service takes.
    """

    def __init__(self, exports: Sequence[Path], rows: int, seed: int = 1) -> None:
        for folder in (ROOT, ROOT / "tools"):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        from prediction_rows.open import open_rows
        from rec_runner.exported.open import open_export

        scores, dice = {}, random.Random(seed)
        for folder in exports:
            export = open_export(folder, "auto", 1)
            manifest = export.manifest
            assert manifest.columns is not None
            reader = open_rows(manifest.columns)
            if not scores:
                self.columns = reader.describe()
                self.names = [column["name"] for column in self.columns]
                facts = manifest.column_facts
                self.rows = [
                    [_cell(column, facts.get(column["name"], {}), dice) for column in self.columns]
                    for _ in range(rows)
                ]
                self.tasks = manifest.task_names
                # Files of numbers have no header: their columns are called by their places.
                self.has_header = manifest.columns["kind"] == "table"
            found = reader.text(self.text(range(rows)))
            assert not found.faults and len(found.features) == rows
            scores[manifest.model] = export.predict(found.features).tolist()
            export.close()
        self.truth = Truth(self.tasks, scores)

    def text(self, rows: Iterable[int]) -> bytes:
        """Rows as CSV."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        if self.has_header:
            lines.writerow(self.names)
        lines.writerows(self.rows[row] for row in rows)
        return text.getvalue().encode()

    def object(self, row: int, **change: Any) -> dict[str, Any]:
        """A row by the names of its columns."""
        return {**dict(zip(self.names, self.rows[row])), **change}


def _cell(column: Mapping[str, Any], facts: Mapping[str, Any], dice: random.Random) -> Any:
    if column["kind"] == "category":
        return dice.choice(column["values"])
    if column["kind"] == "id":
        return dice.randrange(IDS)
    low, high = facts.get("low", 0), facts.get("high", 1)
    whole = facts.get("whole", False)
    return dice.randint(int(low), int(high)) if whole else round(dice.uniform(low, high), 3)


class Maker:
    """Makes requests of a pool's rows.

    Args:
        pool: the rows.
        key: that the service asks for, or none.
        max_body: bytes that it takes.
        max_rows: rows that it takes.
    """

    def __init__(self, pool: Pool, key: str, max_body: int, max_rows: int) -> None:
        self.pool = pool
        self._key = key
        self._max_body = max_body
        self._max_rows = max_rows

    def http(
        self,
        body: bytes,
        kind: str = "application/json",
        line: str = "POST /predict",
        more: str = "",
        length: int | None = None,
        key: str | None = None,
    ) -> bytes:
        """A request's bytes."""
        key = self._key if key is None else key
        lines = [f"{line} HTTP/1.1", "Host: service"]
        lines += [f"Content-Type: {kind}"] if kind else []
        lines += [f"X-API-Key: {key}"] if key else []
        lines += [more] if more else []
        lines.append(f"Content-Length: {len(body) if length is None else length}")
        return "\r\n".join([*lines, "\r\n"]).encode() + body

    def json(self, value: Any, **settings: Any) -> bytes:
        """A request of JSON."""
        return self.http(json.dumps(value).encode(), **settings)

    def singles(self) -> dict[str, list[Request]]:
        """Each row by itself, as an object."""
        places = range(len(self.pool.rows))
        made = [Request(OBJECT, self.json(self.pool.object(n)), rows=(n,)) for n in places]
        return {OBJECT: made}

    def good(self, many: int = 50) -> dict[str, list[Request]]:
        """All kinds of good requests.

        Args:
            many: rows of those with many.
        """
        pool, size = self.pool, len(self.pool.rows)

        def rows_from(start: int, number: int) -> list[int]:
            return [(start + step) % size for step in range(number)]

        starts = range(0, size, max(1, size // 40))
        kinds: dict[str, list[Request]] = self.singles()

        def add(kind: str, data: bytes, rows: Sequence[int | None], csv: bool = False) -> None:
            kinds.setdefault(kind, []).append(Request(kind, data, rows=rows, csv=csv))

        for start in starts:
            few, lots = rows_from(start, 3), rows_from(start, many)
            add("a row as an array", self.json([pool.rows[start]]), [start])
            add("rows as objects", self.json([pool.object(n) for n in few]), few)
            wrapped = {"rows": [pool.rows[n] for n in lots]}
            add("many rows as arrays", self.json(wrapped), lots)
            add("many rows as CSV", self.http(pool.text(lots), "text/csv"), lots, csv=True)
            objects = [pool.object(few[0]), pool.object(few[1], nowhere=1), pool.object(few[2])]
            line = "POST /predict?on_bad=null"
            add("a bad row among good", self.json(objects, line=line), [few[0], None, few[2]])
            body = json.dumps(pool.object(start)).encode()
            add("a body in chunks", self._chunked(body), [start])
        return kinds

    def large(self, size: int) -> Request:
        """A request of rows as arrays, of about so many bytes."""
        row = json.dumps(self.pool.rows[0])
        places = [number % len(self.pool.rows) for number in range(size // (len(row) + 2))]
        data = self.json([self.pool.rows[place] for place in places])
        return Request(f"{round(size / 2**20)} MB of rows", data, rows=places)

    def _chunked(self, body: bytes) -> bytes:
        head = self.http(b"", more="Transfer-Encoding: chunked").replace(
            b"Content-Length: 0\r\n", b""
        )
        half = len(body) // 2
        parts = (body[:half], body[half:], b"")
        return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)

    def bad(self) -> dict[str, list[Request]]:
        """All kinds of malformed requests, each with the status that it should get."""
        pool, good = self.pool, self.pool.object(0)
        body = json.dumps(good).encode()
        name = pool.names[0]
        numbers = [c["name"] for c in pool.columns if c["kind"] == "number"]
        made = {
            "half an object": (self.http(body[: len(body) // 2]), 400),
            "NaN": (self.json({**good, name: float("nan")}), 400),
            "a name twice": (self.http(b'{"%b": 1, ' % name.encode() + body[1:]), 400),
            "deep lists": (self.http(b"[" * 2_000), 400),
            "no body": (self.http(b""), 400),
            "another on_bad": (self.json(good, line="POST /predict?on_bad=maybe"), 400),
            "bytes that are no HTTP": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
            "no key": (self.json(good, key="wrong"), 401 if self._key else 200),
            "no such path": (self.http(b"", "", "GET /../../etc/passwd"), 404),
            "another method": (self.http(b"", "", "GET /predict"), 405),
            "too many bytes": (self.http(b" " * (self._max_body + 1)), 413),
            "too many rows": (self.json([[]] * (self._max_rows + 1)), 413),
            "another type": (self.json(good, kind="text/plain"), 415),
            "no type": (self.json(good, kind=""), 415),
            "an encoding": (self.json(good, more="Content-Encoding: gzip"), 415),
            "an unknown column": (self.json({**good, "nowhere": 1}), 422),
            "an object for a cell": (self.json({**good, name: {"a": 1}}), 422),
            "a short array": (self.json([pool.rows[0][:-1]]), 422),
            "a number": (self.http(b"7"), 422),
            "half a CSV header": (self.http(name.encode() + b"\n1\n", "text/csv"), 422),
            "half a body": (self.http(body[:-20], length=len(body)), 0),
        }
        if len(pool.names) == 1:
            made.pop("half a CSV header")
        bad = {kind: [Request(kind, data, status)] for kind, (data, status) in made.items()}
        if numbers:
            cell = self.json({**good, numbers[0]: "dear"})
            bad["text for a number"] = [Request("text for a number", cell, 422, bad_row=1)]
        rows = [pool.object(0), pool.object(1), pool.object(2, nowhere=0), pool.object(3)]
        bad["a bad third row"] = [Request("a bad third row", self.json(rows), 422, bad_row=3)]
        if not self._key:
            bad.pop("no key")
        return bad
