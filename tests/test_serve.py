"""tools/serve.py: what clients send, rightly and wrongly, and what they get."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from helpers import run
from prometheus_client.parser import text_string_to_metric_families
from serving import FAKE, TOOL, Answer, Running, ask, serving

KEY = "a-key-of-the-tests-0815"
HEADERS = {"X-API-Key": KEY}
LIMITS = ("--max-body", 100_000, "--max-rows", 1000, "--timeout", 1, "--batch-rows", 64)
JSON = {**HEADERS, "Content-Type": "application/json"}
CSV = {**HEADERS, "Content-Type": "text/csv"}
QUICK = ("--drain-seconds", 0.1)  # where no client is to notice that the service stops


def new_model(folder: Path, name: str) -> Path:
    """A folder of the made-up model."""
    folder.mkdir(exist_ok=True)
    (folder / "id").write_text(name, "ascii")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with a key and small limits; at its end nothing of it may have failed."""
    folder = tmp_path_factory.mktemp("service")
    model = new_model(folder / "model", "first")
    with serving(folder / "log", "--model", model, *LIMITS, SERVE_API_KEY=KEY) as running:
        yield running
        assert running.process.poll() is None
        text = running.text()
        assert "Traceback" not in text and KEY not in text and "a secret cell" not in text


def scores(answer: Answer) -> list[list[float]]:
    """Predictions of an answer as rows."""
    assert answer.status == 200, answer
    assert answer.headers["x-model"] == answer.json["model"] == "first"
    assert all(list(row) == ["sum", "product"] for row in answer.json["predictions"])
    return [list(row.values()) for row in answer.json["predictions"]]


def test_rows_as_objects_as_arrays_and_as_text_are_scored_alike(service: Running) -> None:
    rows = [[1, 2.5], [-3, 0.1], [1e20, 7]]
    expected = [[float(np.float32(a) + np.float32(b)), a * b] for a, b in rows]
    objects = [{"b": b, "a": a} for a, b in rows]
    for body in (objects, rows, {"rows": objects}, {"rows": rows}):
        found = scores(service.ask("/predict", body, HEADERS))
        assert np.allclose(found, expected, rtol=1e-6)
    assert np.allclose(
        scores(service.ask("/predict", objects[0], HEADERS)), expected[:1], rtol=1e-6
    )
    text = "".join(f"{a},{b}\n" for a, b in rows).encode()
    answer = service.ask("/predict", text, {**CSV, "Accept": "application/json"})
    assert np.allclose(scores(answer), expected, rtol=1e-6)
    for headers, body in ((CSV, text), ({**JSON, "Accept": "text/csv"}, json.dumps(rows).encode())):
        answer = service.ask("/predict", body, headers)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        head, *lines = answer.body.decode().splitlines()
        assert head == "sum,product"
        assert np.allclose([[*map(float, line.split(","))] for line in lines], expected, rtol=1e-6)
    # The shortest digits of a float32, not all those of its float64.
    assert (
        b"-2.9}" not in answer.body
        and b'"sum":3.5,"product":2.5' in service.ask("/predict", rows, HEADERS).body
    )
    assert b"-2.9," in answer.body


def test_no_rows_and_as_many_as_may_be(service: Running) -> None:
    assert service.ask("/predict", [], HEADERS).json == {"model": "first", "predictions": []}
    assert service.ask("/predict", b"", CSV).body == b"sum,product\n"
    rows = [[n, 2] for n in range(1000)]
    assert scores(service.ask("/predict", rows, HEADERS))[7:999:991] == [[9, 14], [1000, 1996]]
    answer = service.ask("/predict", "".join(f"{n},2\n" for n in range(1000)).encode(), CSV)
    assert answer.body.splitlines()[-1] == b"1001.0,1998.0"
    for body, headers in ((json.dumps([*rows, [1, 2]]).encode(), JSON), (b"1,2\n" * 1001, CSV)):
        answer = service.ask("/predict", body, headers)
        assert answer.status == 413 and "1000 rows" in answer.json["error"]["message"]


BODIES = {
    "no JSON": (b"{", 400, "is not JSON"),
    "nothing": (b"", 400, "is not JSON"),
    "NaN": (b'{"a": NaN, "b": 1}', 400, "is not JSON"),
    "Infinity": (b'{"a": -Infinity, "b": 1}', 400, "is not JSON"),
    "a name twice": (b'{"a": 1, "b": 1, "a": 2}', 400, "'a' twice"),
    "a name twice in a list": (b'[{"a": 1, "b": 1, "b": 2}]', 400, "'b' twice"),
    "deep lists": (b"[" * 10_000, 400, "is not JSON"),
    "deep objects": (b'{"a":' * 10_000, 400, "is not JSON"),
    "a deep cell": (b'{"a": ' + b"[" * 900 + b"]" * 900 + b', "b": 1}', 422, 'column "a"'),
    "deep cells with a colon": (b'{"a:": ' + b"[" * 1000 + b"]" * 1000 + b"}", 400, ""),
    "bad UTF-8": (b'{"a": "\xff", "b": 1}', 400, "is not JSON"),
    "half a surrogate": (b'{"a": "\\ud800", "b": 1}', 400, "is not JSON"),
    "UTF-16": ('{"a": 1, "b": 1}'.encode("utf-16"), 400, "is not JSON"),
    "a number": (b"7", 422, "is a number"),
    "text": (b'"rows"', 422, "is text"),
    "null": (b"null", 422, "is null"),
    "rows of no kind": (b"[1, 2]", 422, "row 1 is a number"),
    "rows of two kinds": (b'[{"a": 1, "b": 1}, [1, 2]]', 422, "row 2 is an array"),
    "a null among the rows": (b"[[1, 2], null]", 422, "row 2 is null"),
    "rows in rows": (b'{"rows": {"a": 1, "b": 2}}', 422, 'column "a"'),
}


@pytest.mark.parametrize("body, status, said", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_rows_is_refused_in_a_sentence(
    service: Running, body: bytes, status: int, said: str
) -> None:
    answer = service.ask("/predict", body, JSON)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert said in answer.json["error"]["message"]


def test_a_bad_row_is_named_with_its_column_and_value(service: Running) -> None:
    for rows in ([{"a": 1, "b": 2}, {"a": 1, "b": "x"}], [[1, 2], [1, "x"]]):
        answer = service.ask("/predict", rows, HEADERS)
        assert answer.status == 422
        error = answer.json["error"]
        assert (error["row"], error["column"], error["value"]) == (2, "b", "x")
        assert "row 2: column \"b\": 'x' is not a number" == error["message"]
    long = service.ask("/predict", [{"a": "y" * 5000, "b": 2}], HEADERS).json["error"]["value"]
    assert len(long) < 200
    many = service.ask("/predict", [["x", 1]] * 30, HEADERS).json
    assert many["bad_rows"] == 30 and [e["row"] for e in many["errors"]] == [*range(1, 11)]


def test_bad_rows_get_null_where_that_is_asked_for(service: Running) -> None:
    rows = [[1, 2], ["x", 1], [3, 4]]
    answer = service.ask("/predict?on_bad=null", rows, HEADERS)
    good = {"sum": 3.0, "product": 2.0}, {"sum": 7.0, "product": 12.0}
    assert answer.json["predictions"] == [good[0], None, good[1]]
    assert answer.json["bad_rows"] == 1 and answer.json["errors"][0]["row"] == 2
    answer = service.ask("/predict?on_bad=null", b"1,2\nx,1\n3,4\n", CSV)
    assert answer.body == b"sum,product\n3.0,2.0\n,\n7.0,12.0\n"
    assert service.ask("/predict?on_bad=keep", rows, HEADERS).status == 400


def test_types_and_encodings_that_are_not_read(service: Running) -> None:
    body = b'{"a": 1, "b": 2}'
    for headers in (
        {},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "\xff"},
    ):
        answer = service.ask("/predict", gzip.compress(body), {**HEADERS, **headers})
        assert answer.status == 415 and answer.json["error"]["message"]
    good = {"Content-Type": 'Application/JSON ; charset="UTF-8"', "Content-Encoding": "identity"}
    assert service.ask("/predict", body, {**HEADERS, **good}).status == 200


def test_routes_and_methods(service: Running) -> None:
    for path, method, status in (
        ("/predict", "GET", 405),
        ("/predict", "PUT", 405),
        ("/predict", "OPTIONS", 204),
        ("/health", "POST", 405),
        ("/health", "TRACE", 405),
        ("/health", "HEAD", 200),
        ("/model", "HEAD", 200),
        ("/nothing", "GET", 404),
        ("/health/", "GET", 404),
        ("/redoc", "GET", 404),
        ("/health?x=%ff", "GET", 200),
    ):
        answer = service.ask(path, None, HEADERS, method)
        assert answer.status == status, (path, method)
        assert answer.headers["x-model"] == "first"
        if status == 405:
            assert answer.headers["allow"] and answer.json["error"]["message"]
        if method == "HEAD":
            assert not answer.body and int(answer.headers["content-length"]) > 0
    assert service.ask("/ready").json == {"status": "ready"}
    about = service.ask("/model", None, HEADERS).json
    assert about["limits"] == {"rows": 1000, "body_bytes": 100_000}


def test_the_page_of_the_routes_names_all_and_needs_no_outside_address(service: Running) -> None:
    schema = service.ask("/openapi.json").json
    assert {"/predict", "/model", "/health", "/ready", "/metrics", "/reload"} == {*schema["paths"]}
    page = service.ask("/docs")
    text = page.body.decode()
    assert all(f"{path}</code>" in text for path in schema["paths"])
    assert "http://" not in text and "https://" not in text and "<script" not in text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")


def request(body: bytes, *headers: str, line: str = "POST /predict HTTP/1.1") -> bytes:
    """The bytes of a request that ends its connection."""
    lines = [
        line,
        "Host: localhost",
        f"X-API-Key: {KEY}",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


ROW = b'{"a": 1, "b": 2}'
LENGTH = f"Content-Length: {len(ROW)}"
STREAMS: dict[str, tuple[tuple[bytes | float, ...], int]] = {
    "at once": ((request(ROW, LENGTH),), 200),
    "by the byte": (tuple(bytes([b]) for b in request(ROW, LENGTH)), 200),
    "in chunks": (
        (request(b"", "Transfer-Encoding: chunked"), b"1\r\n{\r\n", 0.05, b"f\r\n", ROW[1:])
        + (b"\r\n0\r\n\r\n",),
        200,
    ),
    "HTTP/1.0": ((request(ROW, LENGTH, line="POST /predict HTTP/1.0"),), 200),
    "in full": ((request(ROW, LENGTH, line="POST http://x/predict HTTP/1.1"),), 200),
    "too long": ((request(b" " * 100_001, "Content-Length: 100001"),), 413),
    "to be too long": ((request(b"", "Content-Length: 99999999999999999999"),), 400),
    "said to be too long": ((request(b"", "Content-Length: 9999999999999"),), 413),
    "chunks too long": (
        (request(b"", "Transfer-Encoding: chunked"), b"186a1\r\n" + b" " * 100_001),
        413,
    ),
    "two lengths": ((request(ROW, LENGTH, "Content-Length: 3"),), 400),
    "length and chunks": ((request(ROW, LENGTH, "Transfer-Encoding: chunked"),), 400),
    "a length below zero": ((request(ROW, "Content-Length: -3"),), 400),
    "no HTTP": ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,), 400),
    "a method that is none": ((b"PREDICT /predict HTTP/1.1\r\n\r\n",), 400),
    "a path that is no text": ((b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",), 400),
    "CONNECT": ((b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",), 400),
    "HTTP/2": ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), 400),
    "a long header": ((request(ROW, LENGTH, f"X-A: {'a' * 400_000}"),), 431),
    "headers without end": ((b"GET /health HTTP/1.1\r\n" + b"X-A: aaaaaaa\r\n" * 9_000,), 431),
    "an address without end": ((b"GET /" + b"a" * 99_000,), 431),
    "half the headers": ((b"GET /health HTTP/1.1\r\nHost",), 408),
    "half the body": ((request(ROW[:7], LENGTH),), 408),
    "no body": ((request(b"", LENGTH),), 408),
    "half the chunks": ((request(b"1\r\n{\r\n", "Transfer-Encoding: chunked"),), 408),
    "HTTP/2 offered": (
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: " + KEY.encode() + b"\r\n"
            b"Content-Type: application/json\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 16\r\n\r\n" + ROW,
        ),
        200,
    ),
    "a WebSocket": (
        (
            b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ),
        200,
    ),
}


@pytest.mark.parametrize("parts, status", STREAMS.values(), ids=STREAMS)
def test_bytes_on_the_wire(service: Running, parts: tuple[bytes | float, ...], status: int) -> None:
    started = time.monotonic()
    said = service.talk(*parts)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), said[:200]
    assert time.monotonic() - started < 8
    assert b"\r\nx-model: first\r\n" in head
    if status >= 400:
        assert json.loads(body)["error"]["message"]
    elif b"chunked" not in head:
        assert b'"sum":3.0' in body or b"up" in body


def test_expected_bodies_are_asked_for_only_where_they_will_be_read(service: Running) -> None:
    wait = "Expect: 100-continue"
    with service.connect() as client:
        client.sendall(request(b"", LENGTH, wait))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(ROW)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    for headers, status in (("Content-Length: 100001", 413), ("Content-Encoding: br", 415)):
        said = service.talk(request(b"", headers, wait))
        assert said.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_connection_serves_many_requests_refused_ones_among_them(service: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.connect()
    first = connection.sock
    for body, status in (
        (ROW, 200),
        (b" " * 100_001, 413),
        (b"{", 400),
        (b'{"a": "x", "b": 1}', 422),
        (b"[" + b"[1, 2]," * 999 + b"[1, 2]]", 200),
        (ROW, 200),
    ):
        assert ask(connection, "/predict", body, JSON).status == status
    assert connection.sock is first
    connection.close()
    line = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    said = service.talk(line * 5 + request(ROW, LENGTH))
    assert said.count(b"HTTP/1.1 200 ") == 6


def open_files(service: Running) -> int:
    """Files and connections that a service has open."""
    return len([*Path(f"/proc/{service.process.pid}/fd").iterdir()])


def test_a_client_that_takes_no_answers_is_left(service: Running) -> None:
    before = open_files(service)
    body = json.dumps([[1, 2]] * 1000).encode()
    asked = request(body, f"Content-Length: {len(body)}").replace(b"Connection: close\r\n", b"")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", service.port))
        client.settimeout(0.5)
        sent, found = 0, b""
        with contextlib.suppress(OSError):  # the service reads no more of them
            while sent < 400 * len(asked):
                sent += client.send(asked[sent % len(asked) :])
        assert open_files(service) > before
        assert until(lambda: open_files(service) <= before)
        client.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while data := client.recv(1 << 16):
                found += data
    assert 0 < found.count(b"HTTP/1.1 200 ") < sent // len(asked)
    assert scores(service.ask("/predict", {"a": 1, "b": 2}, HEADERS)) == [[3, 2]]


def test_a_client_that_goes_away_harms_nobody(service: Running) -> None:
    for part in (b"", b"POST", request(b"", LENGTH), request(ROW[:5], LENGTH)):
        with service.connect() as client:
            client.sendall(part)
    with service.connect() as client:
        client.sendall(request(b'{"a": -14, "b": 0.2}', "Content-Length: 20"))
    assert scores(service.ask("/predict", {"a": 1, "b": 2}, HEADERS)) == [[3, 2]]


def test_a_client_waits_for_its_scores_no_longer_than_the_limit(service: Running) -> None:
    answer = service.ask("/predict", [[-14, 1.3]], HEADERS)
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
    assert "within 1 s" in answer.json["error"]["message"]
    assert scores(service.ask("/predict", {"a": 1, "b": 2}, HEADERS)) == [[3, 2]]


def test_what_fails_inside_is_told_by_a_number_and_not_by_its_cells(service: Running) -> None:
    answer = service.ask("/predict", {"a": -13, "b": 2}, {**HEADERS, "X-Request-ID": "mine.1"})
    assert answer.status == 500 and answer.headers["x-request-id"] == "mine.1"
    assert answer.json == {"error": {"message": "the service failed; its log has request mine.1"}}
    (event,) = service.lines(event="error", request="mine.1")
    assert event["error"] == "ZeroDivisionError" and event["place"].startswith(f"{FAKE}:")
    assert scores(service.ask("/predict", {"a": 1, "b": 2}, HEADERS)) == [[3, 2]]


@pytest.mark.parametrize("path", ["/predict", "/model", "/metrics", "/reload"])
def test_the_key_is_asked_for(service: Running, path: str) -> None:
    method = "POST" if path in ("/predict", "/reload") else "GET"
    for headers in (
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "0"},
        {"X-API-Key": "\xff\xfe"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Cookie": f"key={KEY}"},
    ):
        answer = service.ask(path, None, headers, method)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.body.decode()
    assert service.ask(f"{path}?key={KEY}", None, {}, method).status == 401
    wanted = {"/predict": 415, "/reload": 200}.get(path, 200)
    assert service.ask(path, None, {"Authorization": f"bearer {KEY}"}, method).status == wanted


def test_the_key_is_in_no_log_no_metric_and_no_answer(service: Running) -> None:
    for path, headers in (
        (f"/{KEY}", {}),
        (f"/predict/{KEY}?{KEY}", HEADERS),
        ("/health", {"X-Request-ID": KEY}),
        ("/predict", {**HEADERS, "Content-Type": KEY}),
        ("/predict?on_bad=" + KEY, JSON),
    ):
        answer = service.ask(path, b"{}", headers, "POST")
        assert KEY not in str(answer)
    assert KEY.encode() not in service.ask("/metrics", None, HEADERS).body
    time.sleep(0.3)
    assert KEY not in service.text()


PATHS = (
    *("/../../../etc/passwd", "/page.js/../../serve.py", "/page/index.html", "//etc/passwd"),
    *("/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/page.css%00.py", "/id"),
    *("/model.json", "/model/model.onnx", "/static/page.js", "/./page.js", "/C:/Windows/win.ini"),
)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_of_a_request_leads_to_a_file(service: Running, path: str) -> None:
    said = service.talk(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 404 ") and b"root:" not in said


def test_a_line_of_the_log_tells_of_a_request_and_shows_no_cell(service: Running) -> None:
    service.ask("/predict?on_bad=null", [[1, 2], ["hush", 1]], {**HEADERS, "X-Request-ID": "r7"})
    (line,) = service.lines(request="r7")
    assert line.pop("time")[:2] == "20" and line.pop("ms") > 0
    assert line == {
        **{"method": "POST", "path": "/predict", "status": 200, "rows": 2},
        **{"model": "first", "request": "r7"},
    }
    assert "hush" not in service.text()


def counted(service: Running) -> dict[tuple[str, ...], float]:
    """Samples of the metrics by name and labels."""
    text = service.ask("/metrics", None, HEADERS).body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_and_rows(service: Running) -> None:
    before = counted(service)
    service.ask("/predict", [[1, 2], [3, 4]], HEADERS)
    service.ask("/predict", [["x", 2]], HEADERS)
    service.ask("/some/path", None, HEADERS)
    after = counted(service)

    def more(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert more("serve_requests_total", "/predict", "200") == 1
    assert more("serve_requests_total", "/predict", "422") == 1
    assert more("serve_requests_total", "other", "404") == 1
    assert more("serve_request_seconds_count", "/predict") == 2
    assert (more("serve_rows_total"), more("serve_bad_rows_total")) == (2, 1)
    assert after["serve_model", "first"] == 1


def until(wanted: Callable[[], Any]) -> Any:
    """What a function gives, once it gives something; at most 20 s."""
    end = time.monotonic() + 20
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def refuses(service: Running) -> bool:
    """Whether nobody listens any more."""
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_new_model_takes_the_place_of_the_old_one_by_signal_and_by_request(
    tmp_path: Path,
) -> None:
    model = new_model(tmp_path / "model", "one")
    with serving(tmp_path / "log", "--model", model, *QUICK, SERVE_API_KEY=KEY) as service:
        new_model(model, "two")
        assert service.ask("/health").headers["x-model"] == "one"
        service.process.send_signal(signal.SIGHUP)
        assert service.lines(event="reloaded", model="two")
        new_model(model, "three")
        answer = service.ask("/reload", b"", HEADERS)
        assert answer.json == {"model": "three"} and answer.headers["x-model"] == "three"
        assert service.ask("/predict", [[1, 2]], HEADERS).json["model"] == "three"
        new_model(model, "damaged")
        answer = service.ask("/reload", b"", HEADERS)
        assert answer.status == 409 and answer.headers["x-model"] == "three"
        assert "its checksum is not the one noted" in answer.json["error"]["message"]
        service.process.send_signal(signal.SIGHUP)
        assert service.lines(event="reload failed")
        (model / "id").unlink()
        assert service.ask("/reload", b"", HEADERS).status == 409
        assert service.ask("/predict", [[1, 2]], HEADERS).json["model"] == "three"
        found = counted(service)
        assert [found["serve_reloads_total", how] for how in ("done", "failed")] == [2, 3]
        assert [found["serve_model", name] for name in ("one", "two", "three")] == [0, 0, 1]
        assert service.stop() == 0


def test_a_request_keeps_the_model_that_it_began_with(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "old")
    with serving(tmp_path / "log", "--model", model, SERVE_API_KEY=KEY) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("POST", "/predict", b"[[-14, 0.5]]", JSON)
        time.sleep(0.2)
        new_model(model, "new")
        assert service.ask("/reload", b"", HEADERS).json == {"model": "new"}
        assert service.ask("/health").headers["x-model"] == "new"
        answer = connection.getresponse()
        assert answer.status == 200 and answer.getheader("x-model") == "old"
        assert json.loads(answer.read())["model"] == "old"
        connection.close()


def test_without_a_key_predictions_are_given_and_reloads_are_not(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    arguments = ("--model", model, "--queue", 3, "--quiet", *QUICK)
    with serving(tmp_path / "log", *arguments) as service:
        assert scores(service.ask("/predict", {"a": 1, "b": 2})) == [[3, 2]]
        assert service.ask("/model").status == service.ask("/metrics").status == 200
        answer = service.ask("/reload", b"")
        assert answer.status == 403 and "SIGHUP" in answer.json["error"]["message"]
        # One is being scored and two wait; the others are sent away.
        clients = [service.connect() for _ in range(6)]
        body = b"[[-14, 0.7]]"
        head = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\n"
        for client in clients:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.05)
        said = [client.recv(65536) for client in clients]
        for client in clients:
            client.close()
        assert [text[9:12] for text in said] == [b"200"] * 3 + [b"503"] * 3
        assert all(b"\r\nretry-after: 1\r\n" in text for text in said[3:])
        assert service.text().count("\n") == 1  # no access log
        # One for the first request, one for the slow one, and those two that waited were one.
        assert counted(service)["serve_batch_rows_count",] == 3
        assert service.stop(signal.SIGINT) == 0


def test_a_page_of_strangers_learns_nothing_of_a_service_without_a_key(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    row = {"a": 1, "b": 2}
    with serving(tmp_path / "log", "--model", model) as service:
        # Its name may be made to lead here; then a browser takes it for the service's own page.
        for host in ("evil.example", f"evil.example:{service.port}", "127.0.0.1.evil.example", ""):
            for path, body in (("/model", None), ("/metrics", None), ("/predict", row)):
                answer = service.ask(path, body, {"Host": host})
                assert answer.status == 403 and "Host" in answer.json["error"]["message"]
        for host in ("localhost:9999", "LOCALHOST", f"127.0.0.1:{service.port}", "[::1]:1"):
            assert service.ask("/model", None, {"Host": host}).status == 200
        assert service.ask("/health", None, {"Host": "evil.example"}).status == 200
        # From a page elsewhere, a browser asks first whether it may send such rows: it may not.
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = service.ask("/predict", None, asked, "OPTIONS")
        assert not any(name.startswith("access-control-") for name in answer.headers)
    with serving(tmp_path / "log", "--model", model, "--no-key") as service:
        assert scores(service.ask("/predict", row, {"Host": "name.of.a.proxy"})) == [[3, 2]]


def test_requests_that_have_come_are_answered_after_the_signal_to_stop(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    with serving(tmp_path / "log", "--model", model, "--drain-seconds", 1) as service:
        slow = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        slow.request("POST", "/predict", b"[[-14, 2]]", {"Content-Type": "application/json"})
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        assert ask(kept, "/ready").status == 200
        half = service.connect()
        half.sendall(request(ROW[:5], LENGTH))
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        answer = until(lambda: (found := service.ask("/ready")).status == 503 and found)
        assert answer.headers["connection"] == "close" and int(answer.headers["retry-after"]) > 0
        answer = ask(kept, "/health")
        assert answer.status == 200 and answer.headers["connection"] == "close"
        late = service.connect()  # while it drains; the request comes when it listens no more
        assert until(lambda: refuses(service))
        late.sendall(request(ROW, LENGTH))
        half.sendall(ROW[5:])
        for client in (late, half):
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            client.close()
        answer = slow.getresponse()
        assert answer.status == 200 and answer.getheader("connection") == "close"
        assert service.process.wait(20) == 0


def test_a_second_signal_ends_it_at_once_and_in_silence(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    arguments = ("--model", model, "--quiet", "--drain-seconds", 60)
    with serving(tmp_path / "log", *arguments) as service:
        service.process.send_signal(signal.SIGTERM)
        assert until(lambda: service.ask("/ready").status == 503)
        assert service.stop() == 0
        assert service.text().count("\n") == 1  # of its start


def test_workers_share_the_port_and_are_replaced(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    arguments = ("--model", model, "--workers", 2, *QUICK)
    with serving(tmp_path / "log", *arguments, SERVE_API_KEY=KEY) as service:

        def workers() -> set[int]:
            parent = service.process.pid
            return {*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())}

        assert until(lambda: len(workers()) == 2)
        first = workers()
        for _ in range(40):
            assert scores(service.ask("/predict", [[1, 2]], HEADERS)) == [[3, 2]]
        assert counted(service)["serve_requests_total", "/predict", "200"] == 40
        new_model(model, "second")
        assert service.ask("/reload", b"", HEADERS).json == {"model": "second"}

        def named() -> set[str]:
            return {service.ask("/health").headers["x-model"] for _ in range(20)}

        assert until(lambda: named() == {"second"})
        new_model(model, "damaged")
        assert service.ask("/reload", b"", HEADERS).status == 409
        new_model(model, "third")
        victim = min(first)
        subprocess.run(["kill", "-KILL", str(victim)], check=True)
        assert until(lambda: len(workers() - {victim}) == 2)
        assert until(lambda: f"worker {victim} ended with signal 9" in service.text())
        assert service.ask("/health").status == 200
        metrics = until(lambda: counted(service))
        assert metrics["serve_requests_total", "/predict", "200"] == 40
        assert service.stop() == 0
        assert not workers() if Path(f"/proc/{service.process.pid}").exists() else True


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    arguments = ("--model", model, "--workers", 2, *QUICK)
    with serving(tmp_path / "log", *arguments) as service:
        assert service.ask("/health").status == 200
        service.process.kill()
        service.process.wait()
        assert until(lambda: refuses(service))


# Runs command lines of the tool, one after another, in one process.
COMMANDS = """
import contextlib, io, json, os, sys

from fake_service import main, opener

found = []
for fake, arguments, environment in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    os.environ.update(environment)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments, opener if fake else None)
        except SystemExit as stop:
            status = stop.code
    for name in environment:
        del os.environ[name]
    found.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


def test_what_is_wrong_with_the_command_line_is_said_in_a_sentence(tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", "first")
    damaged = new_model(tmp_path / "damaged", "damaged")
    (tmp_path / "empty").mkdir()
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    cases: list[tuple[bool, list[object], dict[str, str], int, str]] = [
        (True, ["--model", model, "--host", "0.0.0.0"], {}, 2, "SERVE_API_KEY is not set"),
        (True, ["--model", model, "--host", "::"], {}, 2, "SERVE_API_KEY is not set"),
        (True, ["--model", model], {"SERVE_API_KEY": ""}, 2, "printable"),
        (True, ["--model", model], {"SERVE_API_KEY": "a b"}, 2, "printable"),
        (True, ["--model", model, "--no-key"], {"SERVE_API_KEY": KEY}, 2, "one of the two"),
        (True, ["--model", model, "--port", port], {}, 1, f"--port {port}: "),
        (True, ["--model", model, "--port", 70_000], {}, 2, "--port"),
        (True, ["--model", model, "--timeout", "nan"], {}, 2, "--timeout"),
        (True, ["--model", damaged], {}, 2, "is damaged"),
        (True, ["--model", tmp_path / "empty"], {}, 1, "No such file"),
        (False, ["--model", tmp_path / "empty"], {}, 2, "holds no export"),
        (False, [], {}, 2, "--model"),
    ]
    result = run(
        [
            *(sys.executable, "-c", COMMANDS),
            json.dumps([[fake, [*map(str, line)], given] for fake, line, given, _, _ in cases]),
        ],
        cwd=tmp_path,
        PYTHONPATH=str(FAKE.parent),
    )
    assert result.status == 0, result.stderr
    for (_, line, given, wanted, said), (status, out, err) in zip(cases, json.loads(result.stdout)):
        assert (status, out) == (wanted, ""), (line, err)
        assert err.startswith("error: ") and err.count("\n") == 1 and said in err, err
        assert not given.get("SERVE_API_KEY") or given["SERVE_API_KEY"] not in err
    taken.close()
    result = run(
        [sys.executable, str(FAKE), "--model", str(damaged), "--workers", "2"], cwd=tmp_path
    )
    assert result.status == 2 and result.sentences == [
        "error: model.json is damaged: its checksum is not the one noted"
    ]
    result = run([sys.executable, str(TOOL), "-h"], cwd=tmp_path)
    assert result.status == 0 and "SERVE_API_KEY" in result.stdout
