"use strict";
// A file scored in parts: where its rows end, and its lines with predictions behind them.

const FAULTS = 100; // rows listed of those with something wrong
const PART_ROWS = 1000;
const PART_CHARS = 512 << 10;
const MOST_ROW_CHARS = 16 << 20; // of one with a quote that is open, as in training

// ---------------------------------------------------------------- its rows

/** A file's text in pieces, without its byte-order mark; `read` is told how much has been read. */
async function* textOf(file, read) {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const counted = new TransformStream({
    transform(chunk, controller) {
      read(chunk.length);
      controller.enqueue(chunk);
    },
  });
  let stream = file.stream().pipeThrough(counted);
  if (head[0] === 0x1f && head[1] === 0x8b) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw new Failure(t("noText"));
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What parts the cells, guessed by the first line. */
function delimiterOf(line) {
  const plain = line.replace(/"(""|[^"])*"/g, "");
  const counts = [",", ";", "\t", "|"].map((mark) => [mark, plain.split(mark).length]);
  return counts.reduce((best, one) => (one[1] > best[1] ? one : best))[0];
}

/** Where the row that begins at `start` ends, behind its line end; -1 where more text is needed.
 *
 * Quotes are read as in training: one opens a cell only where the cell begins, and a row whose
 * quotes are wrong ends with its first line.
 */
function endOfRow(text, start, delimiter, last) {
  const line = /\r\n|\r|\n/g;
  line.lastIndex = start;
  const match = line.exec(text);
  const short = last ? text.length : -1;
  const behind = (place) =>
    text[place] === "\r" && place + 1 === text.length && !last
      ? -1
      : place + (text.startsWith("\r\n", place) ? 2 : 1);
  const stop = match ? match.index : text.length;
  const quote = text.indexOf('"', start);
  if (quote < 0 || quote >= stop) return match ? behind(stop) : short;
  const blank = (place) => (text[place] === " " || text[place] === "\t") && text[place] !== delimiter;
  const tooFar = text.length - start > MOST_ROW_CHARS;
  const lineEnd = match ? behind(stop) : short;
  for (let place = start; ; place++) {
    while (blank(place)) place++;
    if (text[place] === '"') {
      do place = text.indexOf('"', place + 1) + 1;
      while (place > 0 && text[place] === '"');
      if (place <= 0 || (place === text.length && !last)) return last || tooFar ? lineEnd : -1;
      while (blank(place)) place++;
      if (place < text.length && ![delimiter, "\r", "\n"].includes(text[place])) return lineEnd;
    } else {
      while (place < text.length && ![delimiter, "\r", "\n"].includes(text[place])) place++;
    }
    if (place >= text.length) return short;
    if (text[place] !== delimiter) return behind(place);
  }
}

/** The rows of a file: {text, end, line, blank}, `end` being their line end. */
async function* rowsOf(file, read, tell) {
  let rest = "";
  let line = 1;
  let delimiter = "";
  const cut = function* (last) {
    let start = 0;
    while (start < rest.length) {
      if (!delimiter) {
        const first = rest.match(/^\s*([^\r\n]*\S[^\r\n]*)(\r|\n)/) || (last && [rest, rest]);
        if (!first) break;
        tell((delimiter = delimiterOf(first[1])));
      }
      const stop = endOfRow(rest, start, delimiter, last);
      if (stop < 0) break;
      const whole = rest.slice(start, stop);
      const text = whole.replace(/(\r\n|\r|\n)$/, "");
      const blank = (delimiter === "\t" ? /^ *$/ : /^[ \t]*$/).test(text);
      yield { text, end: whole.slice(text.length), line, blank };
      line += whole.split(/\r\n|\r|\n/).length - 1;
      start = stop;
    }
    rest = rest.slice(start);
  };
  for await (const piece of textOf(file, read)) {
    rest += piece;
    yield* cut(false);
  }
  yield* cut(true);
}

// ---------------------------------------------------------------- its predictions

/** The answer for some rows of a file: {predictions, errors}; halves what is too large. */
async function scoreRows(rows, header, signal) {
  const body = [...(header ? [header] : []), ...rows].map((row) => row.text + "\n").join("");
  try {
    return await call("predict?on_bad=null", body, "text/csv; charset=utf-8", signal);
  } catch (error) {
    if (error.status !== 413) throw error;
    if (rows.length < 2) throw new Failure(t("tooLong"));
    const half = rows.length >> 1;
    const first = await scoreRows(rows.slice(0, half), header, signal);
    const second = await scoreRows(rows.slice(half), header, signal);
    const moved = (second.errors || []).map((error) => ({ ...error, row: error.row + half }));
    return {
      predictions: [...first.predictions, ...second.predictions],
      errors: [...(first.errors || []), ...moved],
    };
  }
}

/** A file's rows with predictions behind them, as pieces of a Blob. */
class Scored {
  constructor(file, signal, progress) {
    Object.assign(this, {
      file,
      signal,
      progress,
      header: null,
      started: false,
      pieces: [],
      rows: 0,
      bad: 0,
      faults: [],
      delimiter: ",",
    });
  }

  async run() {
    const mark = new Uint8Array(await this.file.slice(0, 3).arrayBuffer());
    if (mark.join() === "239,187,191") this.pieces.push("\ufeff"); // spreadsheets know UTF-8 by it
    let read = 0;
    let part = [];
    let size = 0;
    const most = Math.min(PART_ROWS, model.limits?.rows || PART_ROWS);
    const count = (bytes) => this.progress((read += bytes) / this.file.size);
    for await (const row of rowsOf(this.file, count, (delimiter) => (this.delimiter = delimiter))) {
      part.push(row);
      size += row.text.length;
      if (part.length < most && size < PART_CHARS) continue;
      await this.add(part);
      [part, size] = [[], 0];
    }
    await this.add(part);
    if (!this.rows) throw new Failure(t("noRows"));
  }

  /** Score a part; the service says by the first two rows whether there is a header. */
  async add(part) {
    let full = part.filter((row) => !row.blank);
    if (full.length && !this.started) {
      const { predictions } = await scoreRows(full.slice(0, 2), null, this.signal);
      if (predictions.length < Math.min(2, full.length)) this.header = full[0];
      this.started = true;
      if (this.header) full = full.slice(1);
    }
    const { predictions, errors = [] } = full.length
      ? await scoreRows(full, this.header, this.signal)
      : { predictions: [] };
    if (predictions.length !== full.length) throw new Failure(t("miscount", full.length, predictions.length));
    await this.explain(full, predictions, errors);
    const of = new Map(full.map((row, i) => [row, predictions[i]]));
    this.rows += full.length;
    this.bad += predictions.filter((prediction) => !prediction).length;
    this.pieces.push(new Blob([part.map((row) => this.extended(row, of.get(row))).join("")]));
  }

  /** Note what is wrong with the rows without predictions: an answer says so of its first few. */
  async explain(full, predictions, errors) {
    let bad = full.filter((row, i) => !predictions[i]);
    let at = (row) => full[row - 1];
    while (errors.length && this.faults.length < FAULTS) {
      const told = new Set(errors.map(({ row }) => at(row)));
      for (const { row, column, message } of errors) {
        this.faults.push({ line: at(row)?.line ?? "", column: column || "", message: said(message, column) });
      }
      const rest = bad.filter((row) => !told.has(row));
      if (!rest.length || rest.length === bad.length) break;
      bad = rest;
      at = (row) => rest[row - 1];
      errors = (await scoreRows(rest.slice(0, FAULTS), this.header, this.signal)).errors || [];
    }
    this.faults.length = Math.min(this.faults.length, FAULTS);
  }

  /** A row's line with its predictions, or the header with the tasks' names. */
  extended(row, prediction) {
    if (row.blank) return row.text + row.end;
    const more = row === this.header ? this.names() : tasks.map((task) => asText(prediction?.[task.name]));
    return [row.text, ...more].join(this.delimiter) + row.end;
  }

  /** Names of the new columns, which no column of the file has. */
  names() {
    const taken = new Set(
      this.header.text.split(this.delimiter).map((cell) => cell.trim().replace(/^"(.*)"$/s, "$1")),
    );
    return tasks.map(({ name }) => {
      let free = name;
      while (taken.has(free)) free = `predicted_${free}`;
      return /["\r\n]/.test(free) || free.includes(this.delimiter) ? `"${free.replaceAll('"', '""')}"` : free;
    });
  }
}

let fileUnderWay = null;
let address = "";
let outcome = null; // what to say of the file again, in another language

async function scoreFile(file) {
  fileUnderWay?.abort();
  const mine = (fileUnderWay = new AbortController());
  outcome = { file, state: "scoring" };
  $("progress").value = 0;
  URL.revokeObjectURL(address);
  renderFile();
  const scored = new Scored(file, mine.signal, (share) => ($("progress").value = share));
  try {
    await scored.run();
    outcome = { file, state: "scored", scored };
    address = URL.createObjectURL(new Blob(scored.pieces, { type: "text/csv" }));
  } catch (error) {
    if (mine !== fileUnderWay) return; // another file has taken its place
    outcome = mine.signal.aborted
      ? { file, state: "stopped" }
      : { file, state: "failed", why: error.message, told: error.details?.errors };
  }
  if (mine !== fileUnderWay) return;
  fileUnderWay = null;
  renderFile();
}

/** Show what has come of the file. */
function renderFile() {
  const { file, state, scored, why } = outcome || {};
  const busy = state === "scoring";
  $("file").setAttribute("aria-busy", String(busy));
  $("progress").hidden = $("cancel").hidden = !busy;
  $("download").hidden = state !== "scored";
  $("faults").hidden = !scored?.faults.length;
  if (!outcome) return;
  const words = {
    scoring: () => t("scoring", file.name),
    stopped: () => t("stopped", file.name),
    failed: () => t("failed", file.name, why),
    scored: () =>
      t(
        "scored",
        file.name,
        new Intl.NumberFormat(lang).format(scored.rows),
        new Intl.NumberFormat(lang).format(scored.bad),
      ),
  };
  const names = tasks.map((task) => task.name).join(", ");
  $("scored").textContent = words[state]() + (scored && !scored.header ? " " + t("noHeader", names) : "");
  $("scored").className = state === "failed" ? "problem" : "";
  if (!scored) return;
  const name = file.name.replace(/\.gz$/i, "").replace(/(\.[^.]*)?$/, ".predictions$1");
  $("download").href = address;
  $("download").download = name;
  $("download").textContent = t("download", name);
  $("faults-title").textContent = t("faults", scored.faults.length, scored.bad);
  $("faults")
    .querySelector("tbody")
    .replaceChildren(
      ...scored.faults.map(({ line, column, message }) =>
        make(
          "tr",
          {},
          ...[line, column, message].map((textContent, i) =>
            make("td", i === 2 ? { textContent, lang: "en" } : { textContent }),
          ),
        ),
      ),
    );
}

function takeFiles(files) {
  if (!files.length || $("page").hidden) return;
  if (files.length > 1) return show(t("one"));
  show("");
  scoreFile(files[0]);
}
