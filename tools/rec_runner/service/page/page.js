"use strict";
// The page of the prediction service: every task's prediction of a row as one types, what moved it,
// and a file. It talks to GET model and POST predict and to nothing else.

const PAUSE_MS = 120; // between a key and the request
const SPEAK_MS = 900; // between a prediction and its being read out
const BARS = 8; // shown before "all"
const TRIES = 6; // while the service has too much to do

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- small helpers

/** An element with properties, with attributes (names with a dash, role, for), and children. */
function make(name, set = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(set)) {
    if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
  });
}

/** A failure that has a sentence for the user; `status` and `details` are of the answer. */
class Failure extends Error {
  constructor(message, status = 0, details = {}) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

function show(problem) {
  $("problem").textContent = problem || "";
  $("problem").hidden = !problem;
}

// ---------------------------------------------------------------- the service

let key = ""; // in memory only

/** The JSON that the service answers with; waits where it has too much to do. */
async function call(path, body, type, signal) {
  const headers = { Accept: "application/json" };
  if (type) headers["Content-Type"] = type;
  if (key) headers["X-API-Key"] = key;
  for (let tried = 1; ; tried++) {
    let answer, data;
    try {
      answer = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        body,
        headers,
        signal,
        cache: "no-store",
        credentials: "omit",
      });
      data = await answer.json().catch(() => null);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(t("noAnswer"));
    }
    if (answer.ok && data) return data;
    if (answer.status === 401) askForKey();
    if (answer.status === 503 && tried < TRIES) {
      await wait(1000 * Math.min(5, Number(answer.headers.get("Retry-After")) || 1), signal);
      continue;
    }
    const why = data?.error?.message || (answer.status === 503 ? t("tooMuch") : t("answered", answer.status));
    throw new Failure(why, answer.status, data || {});
  }
}

function askForKey() {
  const wrong = key !== "";
  key = "";
  $("key").hidden = false;
  $("page").hidden = $("to-file").hidden = true;
  $("key-hint").textContent = wrong ? t("keyWrong") : t("keyHint");
  $("key-text").value = "";
  $("key-text").focus();
}

/** Predictions of rows that are arrays of cells; halves what is too large for one request. */
async function predictRows(rows, signal) {
  try {
    const answer = await call("predict", JSON.stringify(rows), "application/json", signal);
    return { model: answer.model, predictions: answer.predictions };
  } catch (error) {
    if (error.status !== 413 || rows.length < 2) throw error;
    const half = rows.length >> 1;
    const [first, second] = [
      await predictRows(rows.slice(0, half), signal),
      await predictRows(rows.slice(half), signal),
    ];
    return { model: second.model, predictions: [...first.predictions, ...second.predictions] };
  }
}

// ---------------------------------------------------------------- the model

let model = null;
let tasks = []; // {name, type}
let columns = []; // {name, kind, values, known, other, missing, typical, low, high, index, text, start, fault}

async function loadModel() {
  let told;
  try {
    told = await call("model");
  } catch (error) {
    if (error.status !== 401) show(error.message);
    return;
  }
  show("");
  takeModel(told);
}

function takeModel(told) {
  const before = new Map(columns.map((column) => [column.name, column]));
  model = told;
  latest = null;
  tasks = told.tasks || [];
  const facts = told.column_facts || {};
  const example = told.example || {};
  columns = (told.columns || []).map((column, index) => {
    const { typical = null, low = null, high = null } = facts[column.name] || column;
    const start = asText(column.name in example ? example[column.name] : typical);
    const kept = before.get(column.name);
    const text = kept && kept.text !== kept.start ? kept.text : start;
    return {
      ...column,
      typical,
      low,
      high,
      index,
      start,
      text,
      known: new Set(column.values || []),
      fault: "",
    };
  });
  $("key").hidden = true;
  $("page").hidden = $("to-file").hidden = false;
  $("filter").value = "";
  $("only").checked = false;
  renderAll();
  if (columns.length) predict();
}

// ---------------------------------------------------------------- predictions as one types

let latest = null; // {row, variants: [{column, prediction}]}
let waiting = 0;
let serial = 0;
let underWay = null;
let speaking = 0;

function later() {
  clearTimeout(waiting);
  stale(true);
  waiting = setTimeout(predict, PAUSE_MS);
}

/** Mark predictions as those of another row; `broken` is said where columns have to be corrected. */
function stale(is, broken = false) {
  $("tasks").classList.toggle("stale", is);
  $("moves").classList.toggle("stale", is);
  $("tasks").classList.toggle("broken", broken);
  $("state").textContent = broken ? brokenOnes() : "";
  if (broken) speak($("state").textContent);
}

/** Have a screen reader say something, once nobody types. */
function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("spoken").textContent = text), SPEAK_MS);
}

/** Ask for the row as it stands and, in the same request, for each column set back. */
async function predict() {
  const mine = ++serial;
  waiting = 0;
  underWay?.abort();
  underWay = new AbortController();
  const cells = columns.map((column) => cellOf(column, column.text));
  if (columns.some(faultOf)) return stale(true, true);
  const row = cells.map((cell) => cell.cell);
  const set = columns.filter((column) => column.typical !== null && !isTypical(column));
  const rows = [
    row,
    ...set.map((column) => row.map((cell, i) => (i === column.index ? column.typical : cell))),
  ];
  try {
    const { model: by, predictions } = await predictRows(rows, underWay.signal);
    if (mine !== serial) return;
    show("");
    latest = {
      row: predictions[0],
      variants: set.map((column, i) => ({ column, value: column.text, prediction: predictions[i + 1] })),
    };
    stale(waiting !== 0); // what was typed meanwhile is asked for next
    renderPredictions();
    if (by && model.model && by !== model.model) loadModel(); // a new one is served
  } catch (error) {
    if (mine === serial && !underWay.signal.aborted) refused(error);
  }
}

function brokenOnes() {
  const names = columns.filter(faultOf).map((column) => column.name);
  const count = lang === "zh" ? names.length : names.length - 3; // "等 5 列" counts all of them
  return t(
    "broken",
    names.slice(0, 3).join(lang === "zh" ? "、" : ", "),
    names.length > 3 ? shown(count) : 0,
  );
}

/** Show what the service finds wrong: beside the column, where it names one. */
function refused(error) {
  const { column: name } = error.details.error || {};
  const column = error.status === 422 && columns.find((c) => c.name === name);
  if (!column) {
    stale(true);
    return error.status === 401 || show(error.message);
  }
  column.fault = said(error.message, name);
  stale(true, true);
  refreshField(column, true);
  refreshGroups();
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function worded(task, value) {
  if (!isNumber(value)) return t("unknownPrediction");
  return task.type === "regression" ? shown(value) : percent(value);
}

/** How good the model was at a task: of its metrics the one that is told most often. */
function qualityOf(task) {
  const kind = task.type === "regression" ? "mae" : "auc";
  const value = model.metrics?.[`${kind}_${task.name}`];
  return isNumber(value) ? ` · ${kind.toUpperCase()} ${shown(value, 3)}` : "";
}

function renderCards() {
  $("cards").replaceChildren(
    ...tasks.map((task) => {
      const kind = task.type === "regression" ? "number" : "probability";
      const card = make(
        "div",
        { className: "task" },
        make(
          "b",
          { textContent: task.name },
          " ",
          make(
            "span",
            { className: "measure", textContent: t(kind) },
            make("span", { textContent: qualityOf(task) }),
          ),
        ),
        make("span", { className: "value" }),
      );
      card.dataset.task = task.name;
      if (kind === "probability") {
        const meter = make(
          "div",
          {
            className: "meter",
            role: "meter",
            "aria-label": task.name,
            "aria-valuemin": 0,
            "aria-valuemax": 100,
            "aria-valuenow": 0,
          },
          make("span"),
        );
        card.append(meter);
      }
      return card;
    }),
  );
}

function renderPredictions() {
  if (!latest) return;
  const words = [];
  tasks.forEach((task, i) => {
    const card = $("cards").children[i];
    const value = latest.row[task.name];
    const text = worded(task, value);
    card.dataset.value = isNumber(value) ? value : "";
    card.querySelector(".value").textContent = text;
    const meter = card.querySelector(".meter");
    if (meter) {
      meter.setAttribute("aria-valuenow", isNumber(value) ? (100 * value).toFixed(4) : 0);
      meter.setAttribute("aria-valuetext", text);
      meter.firstChild.style.width = `${isNumber(value) ? 100 * value : 0}%`;
    }
    words.push(`${task.name} ${text}`);
  });
  speak(words.join(lang === "zh" ? "，" : ", "));
  renderMoves();
}

// ---------------------------------------------------------------- what moved it

let allBars = false;

function renderTaskChoice() {
  const chosen = $("task").value;
  $("task").replaceChildren(
    ...tasks.map((task) => make("option", { value: task.name, textContent: task.name })),
  );
  if (tasks.some((task) => task.name === chosen)) $("task").value = chosen;
  $("task-line").hidden = tasks.length < 2;
}

function renderMoves() {
  $("moves").hidden = !columns.length;
  if (!latest) return;
  const task = tasks.find((one) => one.name === $("task").value) || tasks[0];
  const now = latest.row[task.name];
  const moves = latest.variants
    .map(({ column, value, prediction }) => ({ column, value, by: now - prediction[task.name] }))
    .filter(({ by }) => isNumber(by))
    .sort((a, b) => Math.abs(b.by) - Math.abs(a.by));
  const most = Math.max(...moves.map(({ by }) => Math.abs(by)), 0);
  const shownOnes = allBars ? moves : moves.slice(0, BARS);
  $("moves-hint").textContent = moves.length ? t("movesHint") : t("movesNone");
  $("bars").replaceChildren(...shownOnes.map((move) => makeMove(task, move, most)));
  $("more").hidden = moves.length <= BARS;
  $("more").textContent = allBars ? t("fewerBars") : t("moreBars", shown(moves.length));
}

function makeMove(task, { column, value, by }, most) {
  const side = by > 0 ? "up" : by < 0 ? "down" : "none";
  const words = task.type === "regression" ? signed(by) : t("points", signed(100 * by));
  const bar = make("span");
  bar.style.width = `${most ? (50 * Math.abs(by)) / most : 0}%`;
  const item = make(
    "li",
    { className: `move ${side}` },
    make("b", { textContent: column.name }),
    make("span", { className: "by", textContent: words }),
    make("span", { className: "from", textContent: t("moved", named(value), named(asText(column.typical))) }),
    make("div", { className: "bar", "aria-hidden": "true" }, bar),
  );
  item.dataset.column = column.name;
  item.dataset.by = by;
  return item;
}

// ---------------------------------------------------------------- the page

function renderAll() {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]"))
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  for (const element of document.querySelectorAll("[data-t-placeholder]"))
    element.placeholder = t(element.dataset.tPlaceholder);
  $("language").textContent = t("other");
  $("language").lang = lang === "zh" ? "en" : "zh-CN";
  if (!model) return;
  $("about").textContent = t(
    "about",
    String(model.model || "").slice(0, 12),
    model.epoch,
    String(model.created || "").slice(0, 10),
  );
  renderColumns();
  renderCards();
  renderTaskChoice();
  renderMoves();
  renderPredictions();
  if ($("tasks").classList.contains("broken")) stale(true, true);
  renderFile();
}

function listen() {
  $("language").addEventListener("click", () => {
    lang = lang === "zh" ? "en" : "zh";
    renderAll();
  });
  $("key").addEventListener("submit", (event) => {
    event.preventDefault();
    key = $("key-text").value.trim();
    $("key-text").value = "";
    loadModel();
  });
  $("filter").addEventListener("input", renderColumns);
  $("only").addEventListener("change", renderColumns);
  $("reset").addEventListener("click", () => {
    for (const column of columns) Object.assign(column, { text: column.start, fault: "" });
    renderColumns();
    later();
  });
  $("task").addEventListener("change", renderMoves);
  $("more").addEventListener("click", () => {
    allBars = !allBars;
    renderMoves();
  });
  $("choose").addEventListener("change", () => {
    takeFiles([...$("choose").files]);
    $("choose").value = ""; // so that the same one can be chosen again
  });
  $("cancel").addEventListener("click", () => fileUnderWay?.abort());
  let depth = 0; // a drag enters and leaves each element on its way
  const over = (by) => document.body.classList.toggle("dropping", (depth = Math.max(0, depth + by)) > 0);
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-Infinity);
    takeFiles([...event.dataTransfer.files]);
  });
}

// On a narrow screen the predictions stay in sight: what is scrolled to has to stop below them.
new ResizeObserver(() =>
  document.documentElement.style.setProperty("--stuck", `${$("tasks").offsetHeight}px`),
).observe($("tasks"));
listen();
renderAll();
loadModel();
