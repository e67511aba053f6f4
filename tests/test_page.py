"""The page of the service, in a browser: a row, its predictions, what moved them, a file, a key."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import ROOT, TOOLS, override, run_cases, run_ok

from raw_tables.text import read_row
from rec_runner.service.app import FILES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PAGE = ROOT / "tools/rec_runner/service/page"
NAMES = ("chromium", "google-chrome", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing gets out
]
LACKING = (
    "playwright is not installed"
    if importlib.util.find_spec("playwright") is None
    else ""
    if CHROMIUM
    else "there is no Chromium"
)
in_browser = pytest.mark.skipif(bool(LACKING), reason=LACKING)

CITIES = ["Berlin", "Lagos", "Lima", "Lima, Peru", 'the "old" city', "北京"]
SCHEMA = f"""
header: true
columns:
  - {{name: age, kind: number, missing: true}}
  - {{name: city, kind: category, values: {json.dumps(CITIES)}, other: true, missing: true}}
  - {{name: user, kind: id, buckets: 30, embedding: 4}}
  - {{name: price, kind: number}}
  - {{name: day, kind: category, values: [monday, tuesday, wednesday]}}
  - {{name: click, kind: label}}
  - {{name: paid, kind: label, type: regression, missing: true}}
"""
HEADER = ["age", "city", "user", "price", "day", "click", "paid"]
Row = dict[str, str]
Predicted = dict[str, float]


def shop_rows(rng: np.random.Generator, count: int) -> list[Row]:
    """Rows of the table above, on which the labels depend."""
    rows = []
    for _ in range(count):
        age, price = int(rng.integers(18, 80)), round(float(rng.normal(20, 6)), 2)
        city, day = str(rng.choice(CITIES)), str(rng.choice(["monday", "tuesday", "wednesday"]))
        user = f"u{rng.integers(40)}"
        click = int(price + 8 * (city == "Lima") + rng.normal(0, 3) > 22)
        paid = f"{3 * price + age + 20 * (day == 'monday'):.2f}" if click else ""
        known = "" if rng.random() < 0.1 else str(age)
        values = [known, city, user, str(price), day, str(click), paid]
        rows.append(dict(zip(HEADER, values)))
    return rows


def table_text(rows: list[Row]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Model:
    """A trained model, its export, and what ``infer`` makes of rows: the road beside the service.

    Args:
        folder: for all of its files.
        config: to train by.
        changes: of the config.
    """

    def __init__(self, folder: Path, config: Path, **changes: Any) -> None:
        self.folder, self.export = folder, folder / "export"
        self.settings = {
            **{"epochs": 1, "model_save_path": "out", "infer_load_path": "out", "patience": "null"},
            **{"infer_start_epoch": "null", "infer_end_epoch": "null", "monitor": "null"},
            **{"hyper_parameters__bottom_size": 8, "hyper_parameters__tower_size": 4},
            **{"valid_share": "null", "use_visual": False, **changes},
        }
        self.config = config
        out = ["--out", self.export]
        self._run(("train", "dygraph", []), ("export", "dygraph", out))
        self.about = json.loads((self.export / "model.json").read_text("utf-8"))

    def _run(self, *cases: tuple[str, str, list[Any]], **more: Any) -> None:
        rest = ["-m", self.config, *override(**{**self.settings, **more})]
        for result in run_cases([(c, g, [*a, *rest]) for c, g, a in cases], self.folder):
            assert result.status == 0, result.stderr

    def infer(self, text: str) -> list[Predicted]:
        """The predictions of rows in the form of the training files, by task."""
        rows = self.folder / "asked"
        rows.mkdir(exist_ok=True)
        (rows / "rows.txt").write_text(text, "utf-8")
        self._run(("infer", "dygraph", []), test_data_dir=rows, save_predictions=True)
        (found,) = (self.folder / "out").rglob("predictions.csv")
        with found.open(encoding="utf-8") as lines:
            scored = list(csv.DictReader(lines))
        tasks = [task["name"] for task in self.about["tasks"]]
        kinds = ("probability", "prediction")  # of classes, and of regressions
        columns = {
            task: next(name for kind in kinds if (name := f"{kind}_{task}") in scored[0])
            for task in tasks
        }
        return [{task: float(row[name]) for task, name in columns.items()} for row in scored]


class Shop(Model):
    """The model of the table above, and rows of which is known what it predicts."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(5)
        (folder / "schema.yaml").write_text(SCHEMA, "utf-8")
        for split, count in (("train", 400), ("test", 60)):
            (folder / split).mkdir()
            (folder / split / "rows.csv").write_text(table_text(shop_rows(rng, count)), "utf-8")
        super().__init__(
            folder,
            ROOT / "config_raw.yaml",
            train_data_dir=folder / "train",
            test_data_dir=folder / "test",
            hyper_parameters__schema=folder / "schema.yaml",
        )
        self.typical: Row = {
            name: "" if value is None else str(value)
            for name, value in self.about["example"].items()
        } | {"click": "", "paid": ""}
        changed = {"age": "61", "city": "Lima, Peru", "price": "31.25", "day": "wednesday"}
        self.row = {**self.typical, **changed, "user": "u7"}
        set_back = [{**self.row, name: self.typical[name]} for name in changed]
        other = {**self.typical, "city": "Ulan Bator", "age": ""}
        self.file = shop_rows(rng, 230)
        unknown = {**self.typical, "day": "sunday"}
        known = [self.typical, self.row, other, unknown, *set_back]
        of = self.infer(table_text([{**row, "click": "0"} for row in [*known, *self.file]]))
        self.of_typical, self.of_row, self.of_other, self.of_unknown = of[:4]
        self.of_set_back = dict(zip(changed, of[4:]))
        self.of_file = of[len(known) :]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The model of a table."""
    return Shop(tmp_path_factory.mktemp("shop"))


@contextmanager
def served(folder: Path, *arguments: object, **environment: str) -> Iterator[str]:
    """The address of a service of an export."""
    command = [sys.executable, "-u", TOOLS / "serve.py", "--model", folder, "--port", "0"]
    with subprocess.Popen(
        [*map(str, [*command, "--drain-seconds", "0", *arguments])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    ) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert "http://" in line, "the service has not started"
            yield line.split()[-1] + "/"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def address(shop: Shop) -> Iterator[str]:
    """Where the shop is served, a hundred rows at a time, and of a file not even that many."""
    with served(shop.export, "--quiet", "--max-rows", 100, "--max-body", 2000) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except Error as error:
            pytest.skip(f"{CHROMIUM} does not start: {error.message[:300]}")
        yield found
        found.close()


class Pages:
    """Opens pages of a service, and watches what they ask for and complain of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.contexts: list[BrowserContext] = []
        self.asked: list[str] = []
        self.complaints: list[str] = []

    def open(self, address: str, **options: Any) -> Page:
        """A page whose predictions are there."""
        options = {"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **options}
        context = self._browser.new_context(**options)
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#page:not([hidden]), #key:not([hidden])")
        return page


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages that ask nobody but the service, and that the browser has nothing to complain of."""
    found = Pages(browser)
    yield found
    for context in found.contexts:
        context.close()
    outside = [url for url in found.asked if not re.match(r"(blob:)?http://127\.0\.0\.1:", url)]
    assert found.asked and not outside
    assert found.complaints == []


def predictions(page: Page) -> Predicted:
    """The predictions that a page shows, once they are those of its row."""
    page.wait_for_selector("#tasks:not(.stale) .task[data-value]")
    shown = page.eval_on_selector_all(
        ".task", "cards => cards.map(card => [card.dataset.task, card.dataset.value])"
    )
    return {task: float(value) for task, value in shown}


def field(page: Page, column: str) -> str:
    """The selector of a column's text."""
    return f'[data-column="{column}"].field input:not([type=range])'


def until(page: Page, expression: str) -> None:
    """Wait until something of a page is so, 10 s at most; its security policy forbids it to ask."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{expression} has not come true")


def fill(page: Page, row: Row) -> None:
    """Type a row."""
    for column, text in row.items():
        if column not in ("click", "paid"):
            page.fill(field(page, column), text)
            page.keyboard.press("Tab")


def score(page: Page, name: str, content: bytes) -> None:
    """Drop a file onto a page, and wait for what comes of it."""
    page.evaluate(
        """([name, content]) => {
          const carried = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          carried.items.add(new File([bytes], name));
          const how = {dataTransfer: carried, bubbles: true, cancelable: true};
          for (const type of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(type, how));
        }""",
        [name, b64encode(content).decode()],
    )
    page.wait_for_selector("#file[aria-busy=false] #scored:not(:empty)")


def downloaded(page: Page) -> tuple[str, bytes]:
    """Name and content of what is offered for download."""
    with page.expect_download() as found:
        page.click("#download")
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


# ---------------------------------------------------------------- without a browser


def test_the_page_names_no_outside_address_and_has_nothing_inline() -> None:
    files = {file.name: file.read_text("utf-8") for file in PAGE.iterdir()}
    served = {name for name, _ in FILES.values()}
    assert set(files) == served  # each is served, and nothing else
    text, html = "\n".join(files.values()), files["index.html"]
    assert set(re.findall(r"\w+://[^\s\"']*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"(?:src|href)=\"(?:\w+:|//|/)", html)  # all beside it, behind a proxy too
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]* src=)", html)
    assert not re.search(r"\beval\(|innerHTML|document\.write|(local|session)Storage|cookie", text)


def test_both_languages_have_the_same_words() -> None:
    source = (PAGE / "words.js").read_text("utf-8")
    english, chinese = (
        re.findall(r"^    (\w+): ", part, re.M)
        for part in re.findall(r"^  (?:en|zh): \{\n(.*?)^  \},", source, re.M | re.S)
    )
    assert english == chinese
    assert len(set(english)) == len(english)
    scripts = "".join(file.read_text("utf-8") for file in PAGE.glob("*.js"))
    used = set(re.findall(r"\bt\(\s*\"(\w+)\"", scripts))
    used |= set(re.findall(r"data-t(?:-\w+)?=\"(\w+)\"", (PAGE / "index.html").read_text("utf-8")))
    assert used - set(english) == set()
    assert set(english) - used <= {"probability", "number"}  # by kind


# ---------------------------------------------------------------- a row


@in_browser
def test_a_row_is_predicted_as_one_types(shop: Shop, address: str, pages: Pages) -> None:
    page = pages.open(address)
    assert predictions(page) == pytest.approx(shop.of_typical, abs=1e-5, rel=1e-5)
    fill(page, shop.row)
    assert predictions(page) == pytest.approx(shop.of_row, abs=1e-5, rel=1e-5)
    click = shop.of_row["click"]
    meter = page.locator(".meter")
    assert float(meter.get_attribute("aria-valuenow") or "") == pytest.approx(100 * click, abs=0.01)
    page.wait_for_timeout(250)  # the bar moves
    width = meter.evaluate("m => m.firstChild.getBoundingClientRect().width / m.clientWidth")
    assert width == pytest.approx(click, abs=0.006)
    assert meter.get_attribute("aria-valuetext") == f"{100 * click:.1f}%"
    spoken = f"click {100 * click:.1f}%, paid "
    until(page, f"document.querySelector('#spoken').textContent.startsWith({spoken!r})")
    fill(page, {**shop.typical, "city": "Ulan Bator", "age": ""})  # another text, and a blank
    assert predictions(page) == pytest.approx(shop.of_other, abs=1e-5, rel=1e-5)
    page.click("#reset")
    assert predictions(page) == pytest.approx(shop.of_typical, abs=1e-5, rel=1e-5)
    assert page.input_value(field(page, "city")) == shop.typical["city"]


@in_browser
def test_what_moved_it_is_the_difference_to_the_column_set_back(
    shop: Shop, address: str, pages: Pages
) -> None:
    page = pages.open(address)
    predictions(page)
    assert page.locator("#bars li").count() == 0
    fill(page, shop.row)
    predictions(page)
    for task in ("click", "paid"):
        page.select_option("#task", task)
        shown = page.eval_on_selector_all(
            "#bars li",
            "bars => bars.map(b => [b.dataset.column, Number(b.dataset.by), b.className,"
            " b.querySelector('.bar span').getBoundingClientRect().width, b.innerText])",
        )
        expected = {column: shop.of_row[task] - of[task] for column, of in shop.of_set_back.items()}
        by = {column: difference for column, difference, *_ in shown}
        assert by == pytest.approx(expected, abs=2e-5, rel=1e-4)  # not of the user, an id
        sizes = [abs(difference) for _, difference, *_ in shown]
        assert sizes == sorted(sizes, reverse=True)
        widths = [width for *_, width, _ in shown]
        assert widths == pytest.approx([widths[0] * size / sizes[0] for size in sizes], abs=1)
        for _, difference, side, _, text in shown:
            assert side.split()[1] == ("up" if difference > 0 else "down")
            assert ("+" if difference > 0 else "−") in text
    posts = [url for url in pages.asked if url.endswith("/predict")]
    before = len(posts)
    page.fill(field(page, "age"), "30")
    predictions(page)
    assert sum(url.endswith("/predict") for url in pages.asked) == before + 1  # all in one request


@in_browser
def test_faults_are_shown_where_they_are(shop: Shop, address: str, pages: Pages) -> None:
    page = pages.open(address)
    predictions(page)
    for column, text, fault in (
        ("price", "2x", "is not a number"),
        ("price", "1e39", "is too large a number"),
    ):
        page.fill(field(page, column), text)
        page.keyboard.press("Tab")
        assert page.inner_text(f'[data-column="{column}"] .fault') == fault
        box = page.locator(field(page, column))
        assert box.get_attribute("aria-invalid") == "true"
        assert f"{box.get_attribute('id')}-fault" in (box.get_attribute("aria-describedby") or "")
        until(page, "document.querySelector('#state').textContent")
        assert page.inner_text("#state") == f"Correct {column} to see the predictions."
        page.click(f'[data-column="{column}"] .back')
        assert box.get_attribute("aria-invalid") == "false"
    assert predictions(page) == pytest.approx(shop.of_typical, abs=1e-5, rel=1e-5)
    fill(page, {"day": "sunday"})  # may be sent, as it may be trained on
    assert "does not know this text" in page.inner_text('[data-column="day"] .fault')
    assert predictions(page) == pytest.approx(shop.of_unknown, abs=1e-5, rel=1e-5)
    page.fill(field(page, "price"), "３１．２５")  # as Chinese input methods write it
    page.fill(field(page, "day"), "WEDNESDAY")
    fill(page, {"age": "61", "city": "Lima, Peru", "user": "u7"})
    assert page.input_value(field(page, "day")) == "wednesday"
    assert predictions(page) == pytest.approx(shop.of_row, abs=1e-5, rel=1e-5)


@in_browser
def test_what_the_service_finds_wrong_is_shown_beside_the_column(
    shop: Shop, address: str, pages: Pages
) -> None:
    page = pages.open(address)
    predictions(page)
    fault = {"row": 1, "column": "user", "message": 'row 1: column "user": is odd'}
    page.route("**/predict", lambda route: route.fulfill(status=422, json={"error": fault}))
    page.fill(field(page, "user"), "u1")
    page.wait_for_selector('[data-column="user"] .fault:not([hidden])')
    assert page.inner_text('[data-column="user"] .fault') == "is odd"
    page.unroute("**/predict")
    page.fill(field(page, "user"), "u2")
    predictions(page)
    assert page.locator(".field .fault:not([hidden])").count() == 0
    pages.complaints.clear()  # the browser notes the 422


@in_browser
def test_busy_service_is_asked_again_and_a_new_model_is_taken(
    shop: Shop, address: str, pages: Pages
) -> None:
    page = pages.open(address)
    predictions(page)
    refused = []

    def refuse_once(route: Any) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route)
            route.fulfill(
                status=503, headers={"Retry-After": "1"}, json={"error": {"message": "busy"}}
            )

    fill(page, {**shop.row, "age": "60"})
    predictions(page)
    page.route("**/predict", refuse_once)
    page.fill(field(page, "age"), shop.row["age"])
    assert predictions(page) == pytest.approx(shop.of_row, abs=1e-5, rel=1e-5)
    page.unroute("**/predict")
    assert refused
    pages.complaints.clear()  # the browser notes the 503
    new = {"model": "f" * 64, "predictions": [{"click": 0.5, "paid": 1.0}] * 9}
    page.route("**/predict", lambda route: route.fulfill(json=new))
    about = {**page.evaluate("model"), "model": "f" * 64}
    page.route("**/model", lambda route: route.fulfill(json=about))
    page.fill(field(page, "age"), "33")
    until(page, "document.querySelector('#about').textContent.includes('ffffffffffff')")
    assert page.input_value(field(page, "age")) == "33"  # what was typed is kept
    page.route("**/predict", lambda route: route.abort())
    page.fill(field(page, "age"), "34")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The service does not answer."
    pages.complaints.clear()


@in_browser
def test_by_keyboard_alone(shop: Shop, address: str, pages: Pages) -> None:
    page = pages.open(address)
    predictions(page)
    press, write = page.keyboard.press, page.keyboard.type
    now = "document.activeElement"
    seen = []
    while len(seen) < 60:
        press("Tab")
        column, kind, name = page.evaluate(
            f"[{now}.closest('.field')?.dataset.column, {now}.type, {now}.id || {now}.textContent]"
        )
        seen.append(name)
        shown_by = f"getComputedStyle({now}.closest('.button') || {now})"
        assert page.evaluate(f"{shown_by}.outlineStyle") == "solid", f"no focus is seen on {name}"
        if column == "age" and kind == "text":
            press("Control+A")
            write("61")
        elif column == "price" and kind == "text":
            press("Control+A")
            write("31.25")
        elif column == "price" and kind == "range":
            low, step = map(float, page.evaluate(f"[{now}.min, {now}.step]"))
            press("Home")
            press("ArrowRight")
            assert float(page.input_value(field(page, "price"))) == pytest.approx(low + step)
            press("Shift+Tab")
            press("Control+A")
            write("31.25")
            press("Tab")
        elif column == "city" and kind == "text":
            write("lima")
            options = page.locator(".options [role=option]")
            assert options.all_inner_texts() == ["Lima", "Lima, Peru"]
            press("ArrowDown")
            press("ArrowDown")
            at = page.get_attribute(field(page, "city"), "aria-activedescendant")
            assert page.inner_text(f"#{at}") == "Lima, Peru"
            press("Enter")
        elif column == "day" and kind == "text":
            press("ArrowDown")
            assert page.get_attribute(field(page, "day"), "aria-expanded") == "true"
            write("tues")
            press("Escape")
            assert page.input_value(field(page, "day")) == shop.typical["day"]
            write("wed")
            press("Enter")
        elif column == "user" and kind == "text":
            write("u7")
        elif name == "task":
            press("ArrowDown")
        elif name == "choose":
            break
    assert seen[0] == "Skip to the predictions"
    assert {"language", "reset", "task", "choose"} <= set(seen)
    assert predictions(page) == pytest.approx(shop.of_row, abs=1e-5, rel=1e-5)
    assert page.input_value("#task") == "paid"


# ---------------------------------------------------------------- a file


@in_browser
@pytest.mark.parametrize("form", ["plain", "gzip", "bare"])
def test_a_dropped_file_comes_back_with_predictions(
    shop: Shop, address: str, pages: Pages, form: str
) -> None:
    rows = [dict(row) for row in shop.file]
    rows[3]["price"], rows[190]["age"] = "a lot", "old"
    ends = "\r\n" if form == "plain" else "\n"
    lines = table_text(rows).splitlines()
    if form == "bare":
        lines = lines[1:]  # no header
    text = ends.join([*lines[:9], "", *lines[9:]])  # a blank line, and no line end at the end
    content = ("\ufeff" if form == "plain" else "").encode() + text.encode()
    page = pages.open(address)
    name = "my rows.csv.gz" if form == "gzip" else "my rows.csv"
    score(page, name, gzip.compress(content) if form == "gzip" else content)
    page.wait_for_selector("#download:not([hidden])")
    said = page.inner_text("#scored")
    assert said.startswith(f"{name}: 230 rows scored, 2 with something wrong")
    assert ("has no header" in said) == (form == "bare")
    faults = page.locator("#faults tbody tr").evaluate_all(
        "r => r.map(x => x.innerText.split('\\t'))"
    )
    place = 0 if form == "bare" else 1
    assert [fault[:2] for fault in faults] == [
        [str(4 + place), "price"],
        [str(192 + place), "age"],
    ]
    assert "a lot" in faults[0][2] and "column" not in faults[0][2]
    assert all("413" in said for said in pages.complaints)  # parts that were too large
    pages.complaints.clear()
    file, answer = downloaded(page)
    assert file == "my rows.predictions.csv"
    assert answer.startswith(b"\xef\xbb\xbf") == (form == "plain")
    back = answer.decode("utf-8-sig").split(ends)
    before = text.split(ends)
    assert len(back) == len(before)
    scored = []
    for old, new in zip(before, back):
        assert new.startswith(old)
        if old:
            scored.append(new[len(old) :])
    if form != "bare":
        assert (
            scored.pop(0) == ",predicted_click,predicted_paid"
        )  # the labels have the tasks' names
    cells = [[float(cell or "nan") for cell in added.split(",")[1:]] for added in scored]
    expected = np.array([list(of.values()) for of in shop.of_file])
    expected[[3, 190]] = np.nan
    np.testing.assert_allclose(cells, expected, rtol=1e-5, atol=1e-5)
    if form == "bare":  # the same rows by the tool: the very same numbers
        (shop.folder / "bare.csv").write_bytes(content)
        rows = ["bare.csv", "--model", shop.export, "--bad-rows", "keep", "--quiet"]
        lines = run_ok("predict", *rows, cwd=shop.folder).splitlines()
        assert lines[0] == "click,paid"
        by_tool = [[float(cell or "nan") for cell in line.split(",")] for line in lines[1:]]
        np.testing.assert_array_equal(by_tool, cells)


@in_browser
def test_files_that_are_none_end_in_a_sentence(address: str, pages: Pages) -> None:
    page = pages.open(address)
    for content, sentence in (
        (b"\xff\xfe\x00x", "the file is not text in UTF-8"),
        (b"", "the file has no rows"),
        (",".join(HEADER).encode() + b"\n", "the file has no rows"),
        (b"age,city,day\n1,Lima,monday\n", '"user"'),
        (
            ",".join(HEADER).encode() + b"\n1," + b"x" * 2000,
            "a row is longer than the service takes",
        ),
    ):
        score(page, "odd.csv", content)
        assert sentence in page.inner_text("#scored")
        assert page.is_hidden("#download") and page.is_hidden("#progress")
    many = "".join("1,Lima,u,dear,monday\n" for _ in range(130))
    score(page, "bad.csv", b"age,city,user,price,day\n" + many.encode())
    assert page.locator("#faults tbody tr").count() == 100  # of more it is said how many
    assert page.inner_text("#faults caption").endswith("the first 100 of 130")
    pages.complaints.clear()  # the browser notes the 422


@in_browser
def test_rows_end_where_training_has_them_end(browser: Browser) -> None:
    page = browser.new_page()
    page.add_script_tag(content=(PAGE / "file.js").read_text("utf-8"))
    rng = np.random.default_rng(11)
    some = ['"', '""', ",", ";", "\n", "\r", "\r\n", "a", "é", " ", "\t", '",', '"\n', ',"']
    texts = ["".join(rng.choice(some, rng.integers(25))) for _ in range(1500)]
    found = page.evaluate(
        """(texts) => Promise.all(texts.map(async (text, i) => {
          const bytes = new TextEncoder().encode(text);
          const file = {
            slice: (start, end) => new Blob([bytes.slice(start, end)]),
            stream: () => new ReadableStream({start(stream) {
              const size = 1 + (i % 7);
              for (let at = 0; at < bytes.length; at += size)
                stream.enqueue(bytes.slice(at, at + size));
              stream.close();
            }}),
          };
          const rows = [];
          let delimiter = ",";
          for await (const row of rowsOf(file, () => {}, (found) => (delimiter = found)))
            rows.push([row.text + row.end, row.line]);
          return [rows, delimiter];
        }))""",
        texts,
    )
    for text, (rows, delimiter) in zip(texts, found):
        data, place, expected = text.encode(), 0, []
        while place < len(data):
            end = read_row(data, place, delimiter.encode(), 0).end
            line = 1 + len(re.findall(r"\r\n|\r|\n", data[:place].decode()))
            expected.append([data[place:end].decode(), line])
            place = end
        assert rows == expected, text
    page.close()


# ---------------------------------------------------------------- key, language, screens


@in_browser
def test_the_key_is_asked_for_and_kept_in_memory_only(shop: Shop, pages: Pages) -> None:
    with served(shop.export, "--quiet", SERVE_API_KEY="open-sesame") as address:
        page = pages.open(address)
        assert page.is_visible("#key") and page.is_hidden("#page")
        assert page.evaluate("document.activeElement.id") == "key-text"
        page.keyboard.type("guess")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#key-hint').textContent.includes('not know')")
        page.keyboard.type("open-sesame")
        page.keyboard.press("Enter")
        assert predictions(page) == pytest.approx(shop.of_typical, abs=1e-5, rel=1e-5)
        assert page.is_hidden("#key") and page.input_value("#key-text") == ""
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert "sesame" not in page.evaluate(kept)
        page.reload()
        page.wait_for_selector("#key:not([hidden])")  # it is gone
    assert all("sesame" not in url for url in pages.asked)
    pages.complaints.clear()  # the browser notes each 401


@in_browser
def test_the_browser_s_language_comes_first(shop: Shop, address: str, pages: Pages) -> None:
    chinese = pages.open(address, locale="zh-TW")
    predictions(chinese)
    assert chinese.get_attribute("html", "lang") == "zh-CN"
    assert chinese.title() == "模型预测"
    fill(chinese, shop.row)
    chinese.fill(field(chinese, "age"), "old")
    chinese.keyboard.press("Tab")
    english = re.compile("[a-z]{4,}")
    names = {*HEADER, *CITIES, "English", "OpenAPI", shop.about["model"][:12]}
    text = chinese.inner_text("body")
    values = {*names, *shop.row.values(), *shop.typical.values(), "old"} - {""}
    for word in sorted(values, key=len, reverse=True):
        text = text.replace(word, "")
    assert english.findall(text) == []
    chinese.click("#language")
    assert chinese.get_attribute("html", "lang") == "en"
    assert chinese.inner_text("h1") == "Predictions"
    assert not re.search(
        "[一-鿿]", chinese.inner_text("body").replace("中文", "").replace("北京", "")
    )
    assert chinese.input_value(field(chinese, "age")) == "old"
    for locale in ("en-GB", "fr-FR"):
        assert pages.open(address, locale=locale).get_attribute("html", "lang") == "en"


# Texts whose contrast with what is behind them is less than WCAG's AA asks for.
FAINT = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => color.slice(0, 3)
    .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    const color = parts(getComputedStyle(element).backgroundColor);
    return (color[3] ?? 1) === 1 ? color : ground(element.parentElement);
  };
  const ratio = (element) => {
    const pair = [parts(getComputedStyle(element).color), ground(element)].map(light);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.closest(".spoken, noscript"))
    .filter((e) => e.value || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => ratio(e) < 4.5)
    .map((e) => `${e.tagName} ${e.className} ${e.textContent} ${ratio(e)}`);
}"""


@in_browser
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_and_contrast(
    shop: Shop, address: str, pages: Pages, locale: str, scheme: str
) -> None:
    page = pages.open(
        address, locale=locale, color_scheme=scheme, viewport={"width": 360, "height": 740}
    )
    fill(page, {**shop.row, "city": "a city whose name is longer than any narrow screen is wide"})
    predictions(page)
    rows = [{**row, "price": "dear"} for row in shop.file[:3]]
    score(
        page,
        "a file with a name that is rather long for so narrow a screen.csv",
        table_text(rows).encode(),
    )
    page.wait_for_selector("#faults:not([hidden])")
    page.fill(field(page, "price"), "dear")
    page.keyboard.press("Tab")
    page.click(field(page, "day"))
    page.wait_for_selector("[role=listbox]")
    beyond = "[...document.querySelectorAll('body *')].filter(e => e.checkVisibility()"
    beyond += (
        " && !e.closest('.skip') && e.getBoundingClientRect().right > 349)"  # the margin is 12
    )
    assert page.evaluate(f"{beyond}.map(e => e.outerHTML)") == []
    assert page.evaluate(FAINT) == []
    page.wait_for_selector("#state:not(:empty)")  # a line more in what stays in sight
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#choose").focus()
    seen = set()
    for _ in range(20):  # upwards: what has the focus is not below the predictions in sight
        page.keyboard.press("Shift+Tab")
        column, top, stuck = page.evaluate(
            """[document.activeElement.closest(".field")?.dataset.column,
            document.activeElement.getBoundingClientRect().top,
            document.querySelector("#tasks").getBoundingClientRect().bottom]"""
        )
        assert column is None or top >= stuck, column
        seen.add(column)
    assert seen >= {"age", "price", "city", "user", "day"}


@in_browser
def test_499_columns(tmp_path_factory: pytest.TempPathFactory, pages: Pages) -> None:
    folder = tmp_path_factory.mktemp("wide")
    changes = {"train_data_dir": ROOT / "data/train", "test_data_dir": ROOT / "data/test"}
    wide = Model(folder, ROOT / "config.yaml", **changes)
    names = [column for column in wide.about["example"]]
    assert len(names) == 499
    other = 1 - wide.about["example"][names[312]]
    row = {**wide.about["example"], names[312]: other, names[0]: 44}
    (of,) = wide.infer(",".join(["0", "0", *(str(row[name]) for name in names)]) + "\n")
    with served(wide.export, "--quiet") as address:
        page = pages.open(address)
        predictions(page)
        assert page.locator(".field").count() < 60  # the rest is made when it is unfolded
        page.fill(field(page, names[0]), "44")
        page.fill("#filter", names[312])
        assert page.locator(".field").count() < 61
        page.fill(field(page, names[312]), str(other))
        assert predictions(page) == pytest.approx(of, abs=1e-5, rel=1e-5)
        page.fill("#filter", "")
        page.check("#only")
        assert page.locator(".field label").all_inner_texts() == [names[0], names[312]]
        page.uncheck("#only")
        page.click("details:last-of-type summary")
        page.wait_for_selector(field(page, names[-1]))
