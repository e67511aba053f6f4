"use strict";
// The page of the prediction service: a row to edit, every task's prediction as one types, what
// moved it, and a file scored in parts. It talks to GET model and POST predict and to nothing else.

const PAUSE_MS = 120; // between a key and the request
const SPEAK_MS = 900; // between a prediction and its being read out
const GROUP = 48; // columns built at once
const FOUND = 60; // columns shown of those that the filter finds
const LISTED = 200; // choices shown of a category
const BARS = 8; // shown before "all"
const FAULTS = 100; // listed of a file
const PART_ROWS = 1000;
const PART_CHARS = 512 << 10;
const MOST_ROW_CHARS = 16 << 20; // of one with a quote that is open, as in training
const TRIES = 6; // while the service has too much to do
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- words

const WORDS = {
  en: {
    other: "中文",
    skip: "Skip to the predictions",
    title: "Predictions",
    about: (id, epoch, day) => [`Model ${id}`, isNumber(epoch) && `epoch ${epoch}`, day && `exported ${day}`].filter(Boolean).join(" · "),
    keyTitle: "This service asks for a key",
    keyLabel: "API key",
    keySend: "Use it",
    keyHint: "It stays in this page's memory and is gone when the page is closed.",
    keyWrong: "The service does not know this key.",
    rowTitle: "A row",
    reset: "Back to the typical row",
    filter: "Find a column",
    only: "Changed ones only",
    found: (shown, all) => (shown < all ? `${shown} of ${all} columns found; type more to narrow it down` : all === 1 ? "1 column found" : `${all} columns found`),
    group: (first, last) => `Columns ${first} to ${last}`,
    changed: (n) => `${n} changed`,
    tasksTitle: "Predictions of this row",
    probability: "probability",
    number: "number",
    broken: (names, more) => `Correct ${names}${more ? ` and ${more} more` : ""} to see the predictions.`,
    unknownPrediction: "none",
    movesTitle: "What moved it",
    taskLabel: "Task",
    movesHint: "Each column on its own set back to its typical value: by how much the prediction is higher or lower as the row stands. The parts need not add up.",
    movesNone: "This is the typical row. Change a column to see what moves the prediction.",
    moved: (value, typical) => `${value}, typically ${typical}`,
    points: (x) => `${x} points`,
    moreBars: (n) => `Show all ${n}`,
    fewerBars: "Show fewer",
    slider: (name) => `${name}, slider`,
    back: (value) => `back to ${value}`,
    backLabel: (name, value) => `${name}: back to ${value}`,
    range: (low, high) => `usually ${low} to ${high}`,
    blank: "(blank)",
    choices: (n) => `${n} choices`,
    anyText: "or any other text",
    id: "any text",
    noChoice: "no such choice",
    moreChoices: (n) => `${n} more; type to narrow it down`,
    needsValue: "needs a value",
    needsNumber: "is not a number",
    newText: "none of the choices: the model does not know this text",
    needsFinite: "is too large a number",
    toFile: "Score a file",
    fileTitle: "A file of rows",
    fileHint: "Drop a CSV onto this page, or choose one. It is scored here in parts, and you get it back with a column of predictions for each task. With a header the order of columns is free; labels may be there or not.",
    choose: "Choose a file",
    cancel: "Cancel",
    progress: "Rows of the file scored",
    scoring: (name) => `Scoring ${name} …`,
    scored: (name, rows, bad) => `${name}: ${rows} ${rows === "1" ? "row" : "rows"} scored` + (bad === "0" ? "." : `, ${bad} with something wrong; their predictions are left empty.`),
    noHeader: (tasks) => `The file has no header, so neither has the download; the last columns are ${tasks}.`,
    stopped: (name) => `${name}: cancelled.`,
    failed: (name, why) => `${name}: ${why}`,
    download: (name) => `Download ${name}`,
    faults: (shown, all) => (shown === all ? "Rows with something wrong" : `Rows with something wrong, the first ${shown} of ${all}`),
    faultLine: "Line",
    faultColumn: "Column",
    faultWhat: "What is wrong",
    noRows: "the file has no rows",
    noText: "the file is not text in UTF-8 (or gzip of such text)",
    tooLong: "a row is longer than the service takes",
    miscount: (sent, got) => `the service read ${got} rows where this page sees ${sent}`,
    one: "drop one file at a time",
    noColumns: "This model's columns are known to its own reader only: rows cannot be edited here.",
    noAnswer: "The service does not answer.",
    tooMuch: "The service has too much to do at the moment.",
    answered: (status) => `The service answered with status ${status}.`,
    foot: "The same predictions by program:",
  },
  zh: {
    other: "English",
    skip: "跳到预测结果",
    title: "模型预测",
    about: (id, epoch, day) => [`模型 ${id}`, isNumber(epoch) && `第 ${epoch} 轮`, day && `导出于 ${day}`].filter(Boolean).join(" · "),
    keyTitle: "此服务需要密钥",
    keyLabel: "API 密钥",
    keySend: "使用",
    keyHint: "密钥只保存在本页内存中，关闭页面即清除。",
    keyWrong: "密钥不正确。",
    rowTitle: "一行数据",
    reset: "恢复典型行",
    filter: "查找列",
    only: "只看改动过的",
    found: (shown, all) => (shown < all ? `找到 ${all} 列，显示前 ${shown} 列；请输入更多文字缩小范围` : `找到 ${all} 列`),
    group: (first, last) => `列 ${first} 至 ${last}`,
    changed: (n) => `${n} 列已改动`,
    tasksTitle: "这一行的预测",
    probability: "概率",
    number: "数值",
    broken: (names, more) => `请先改正 ${names}${more ? ` 等 ${more} 列` : ""}，再看预测。`,
    unknownPrediction: "无",
    movesTitle: "哪些列影响了预测",
    taskLabel: "任务",
    movesHint: "把每一列单独恢复为典型值：当前这一行的预测比恢复后高或低多少。各项之和不一定等于总变化。",
    movesNone: "目前就是典型行。改动任一列，即可看到它对预测的影响。",
    moved: (value, typical) => `${value}，典型值为 ${typical}`,
    points: (x) => `${x} 个百分点`,
    moreBars: (n) => `显示全部 ${n} 项`,
    fewerBars: "收起",
    slider: (name) => `${name}，滑块`,
    back: (value) => `恢复为 ${value}`,
    backLabel: (name, value) => `${name}：恢复为 ${value}`,
    range: (low, high) => `通常在 ${low} 到 ${high} 之间`,
    blank: "（空）",
    choices: (n) => `${n} 个选项`,
    anyText: "也可填其他文字",
    id: "任意文字",
    noChoice: "没有这样的选项",
    moreChoices: (n) => `还有 ${n} 项，请输入文字缩小范围`,
    needsValue: "需要填写",
    needsNumber: "不是数字",
    newText: "不在选项之中：模型不认识这段文字",
    needsFinite: "数字过大",
    toFile: "预测整个文件",
    fileTitle: "整个文件",
    fileHint: "把 CSV 文件拖到本页，或选择一个文件。文件会分批送去预测，完成后可下载：原有各行之后为每个任务加上一列预测。有表头时列的顺序不限；标签列可有可无。",
    choose: "选择文件",
    cancel: "取消",
    progress: "文件预测进度",
    scoring: (name) => `正在预测 ${name} ……`,
    scored: (name, rows, bad) => `${name}：共预测 ${rows} 行` + (bad === "0" ? "。" : `，其中 ${bad} 行有误，其预测留空。`),
    noHeader: (tasks) => `文件没有表头，下载的文件也没有；最后几列依次为 ${tasks}。`,
    stopped: (name) => `${name}：已取消。`,
    failed: (name, why) => `${name}：${why}`,
    download: (name) => `下载 ${name}`,
    faults: (shown, all) => (shown === all ? "有误的行" : `有误的行（共 ${all} 行，列出前 ${shown} 行）`),
    faultLine: "行号",
    faultColumn: "列",
    faultWhat: "问题",
    noRows: "文件中没有数据行",
    noText: "文件不是 UTF-8 文本（或其 gzip 压缩）",
    tooLong: "有一行超出服务允许的长度",
    miscount: (sent, got) => `服务读到 ${got} 行，而本页数得 ${sent} 行`,
    one: "请一次只拖入一个文件",
    noColumns: "此模型的各列只有它自己的读取程序知道，无法在此编辑。",
    noAnswer: "服务没有响应。",
    tooMuch: "服务目前过于繁忙。",
    answered: (status) => `服务返回状态 ${status}。`,
    foot: "用程序获取同样的预测：",
  },
};

let lang = firstLanguage();

function firstLanguage() {
  const wanted = [...(navigator.languages || []), navigator.language || "en"];
  const known = wanted.map((l) => l.toLowerCase().slice(0, 2)).find((l) => l in WORDS);
  return known || "en";
}

function t(key, ...values) {
  const words = WORDS[lang][key];
  return typeof words === "function" ? words(...values) : words;
}

/** A number as people read it. */
function shown(number, digits = 5) {
  const size = Math.abs(number);
  const style = size !== 0 && (size >= 1e15 || size < 1e-6) ? { notation: "scientific" } : {};
  return new Intl.NumberFormat(lang, { maximumSignificantDigits: digits, ...style }).format(number);
}

/** A probability as percents: more digits close to 0 and to 1. */
function percent(p) {
  const edge = Math.min(p, 1 - p);
  const digits = edge >= 0.01 || edge <= 0 ? 1 : Math.min(6, 1 - Math.floor(Math.log10(edge * 100)));
  return new Intl.NumberFormat(lang, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(p);
}

function signed(number, digits = 3) {
  return new Intl.NumberFormat(lang, { maximumSignificantDigits: digits, signDisplay: "exceptZero" }).format(number).replace("-", "−");
}

// ---------------------------------------------------------------- small helpers

/** An element with properties, attributes (names with a dash, role, for) and children. */
function make(name, set = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(set)) {
    if (key.includes("-") || key === "role" || key === "for" || key === "list") element.setAttribute(key, value);
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
      answer = await fetch(path, { method: body === undefined ? "GET" : "POST", body, headers, signal, cache: "no-store", credentials: "omit" });
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
    const [first, second] = [await predictRows(rows.slice(0, half), signal), await predictRows(rows.slice(half), signal)];
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
  tasks = told.tasks || [];
  const facts = told.column_facts || {};
  const example = told.example || {};
  columns = (told.columns || []).map((column, index) => {
    const { typical = null, low = null, high = null } = facts[column.name] || column;
    const start = asText(column.name in example ? example[column.name] : typical);
    const kept = before.get(column.name);
    const text = kept && kept.text !== kept.start ? kept.text : start;
    return { ...column, typical, low, high, index, start, text, known: new Set(column.values || []), fault: "" };
  });
  $("key").hidden = true;
  $("page").hidden = $("to-file").hidden = false;
  $("filter").value = "";
  $("only").checked = false;
  renderAll();
  if (columns.length) predict();
}

function asText(value) {
  return value === null || value === undefined ? "" : String(value);
}

/** What a client sends for a column's text: {cell}, or {fault}. */
function cellOf(column, text) {
  const plain = text.trim();
  if (plain === "") return column.missing ? { cell: null } : { fault: t("needsValue") };
  if (column.kind === "number") {
    const digits = plain.normalize("NFKC").replace("−", "-"); // as Chinese input methods write them
    if (!NUMBER.test(digits)) return { fault: t("needsNumber") };
    return Math.abs(Number(digits)) < 3.4e38 ? { cell: Number(digits) } : { fault: t("needsFinite") };
  }
  return { cell: plain };
}

function isTypical(column) {
  const [now, typical] = [cellOf(column, column.text), cellOf(column, asText(column.typical))];
  return !("fault" in now) && now.cell === typical.cell;
}

function changed(column) {
  return column.text.trim() !== column.start.trim();
}

/** Whether a category holds a text that the model was not told of; it may be sent all the same. */
function isNew(column) {
  const text = column.text.trim();
  return column.kind === "category" && !column.other && text !== "" && !column.known.has(text);
}

function faultOf(column) {
  return column.fault || cellOf(column, column.text).fault || "";
}

/** A fault that the service found, without what is shown beside it anyway. */
function said(message, column) {
  const plain = message.replace(/^row \d+: /, "");
  const lead = `column ${JSON.stringify(column)}: `;
  return column && plain.startsWith(lead) ? plain.slice(lead.length) : plain;
}

function named(text) {
  return text.trim() === "" ? t("blank") : text;
}

// ---------------------------------------------------------------- the row: fields

/** A column's field, with what follows from its text kept up to date by `refreshField`. */
function makeField(column) {
  const id = `c${column.index}`;
  const input = make("input", { type: "text", id, value: column.text, autocomplete: "off", spellcheck: false, "aria-describedby": `${id}-hint ${id}-fault` });
  const line = make("div", { className: "line" });
  const field = make("div", { className: "field" }, make("label", { for: id, textContent: column.name }), line);
  field.dataset.column = column.name;
  if (column.kind === "category") {
    line.append(make("div", { className: "pick" }, input));
    combobox(column, input);
  } else {
    line.append(input);
    input.addEventListener("input", () => setText(column, input.value));
    input.addEventListener("change", () => refreshField(column, true));
  }
  if (column.kind === "number") {
    input.inputMode = "decimal";
    if (hasRange(column)) line.append(makeSlider(column));
  }
  const back = make("button", { type: "button", className: "back" });
  back.addEventListener("click", () => {
    setText(column, column.start);
    input.focus();
  });
  field.append(
    make("p", { className: "hint", id: `${id}-hint` }, make("span"), back),
    make("p", { className: "fault", id: `${id}-fault`, hidden: true }),
  );
  column.field = field;
  refreshField(column, true);
  return field;
}

function hasRange(column) {
  return Number.isFinite(column.low) && Number.isFinite(column.high) && column.low < column.high;
}

function makeSlider(column) {
  const { low, high, typical } = column;
  const whole = column.whole ?? ([low, high, typical ?? low].every(Number.isInteger) && high - low >= 8);
  // A power of ten, so that the slider gives numbers as one would write them.
  const step = whole ? 1 : 10 ** Math.floor(Math.log10((high - low) / 50));
  const slider = make("input", { type: "range", min: low, max: high, step, "aria-label": t("slider", column.name) });
  slider.addEventListener("input", () => setText(column, String(Number(slider.value))));
  return slider;
}

function hintOf(column) {
  const { kind, low, high, values = [] } = column;
  const parts = [];
  if (kind === "number" && Number.isFinite(low) && Number.isFinite(high)) parts.push(t("range", shown(low), shown(high)));
  if (kind === "category") parts.push(t("choices", shown(values.length)));
  if (kind === "category" && column.other) parts.push(t("anyText"));
  if (kind === "id") parts.push(t("id"));
  return parts.join(lang === "zh" ? "，" : ", ");
}

/** Show a column's text and what is wrong with it; while one types a fault waits. */
function refreshField(column, settled) {
  const { field } = column;
  if (!field) return;
  const input = field.querySelector("input");
  const slider = field.querySelector("[type=range]");
  const fault = faultOf(column);
  if (input.value !== column.text) input.value = column.text;
  if (slider && document.activeElement !== slider) slider.value = cellOf(column, column.text).cell ?? column.low;
  if (slider) slider.setAttribute("aria-valuetext", named(column.text));
  if (!fault || settled) {
    input.setAttribute("aria-invalid", String(Boolean(fault)));
    const note = field.querySelector(".fault");
    note.textContent = fault || (isNew(column) ? t("newText") : "");
    note.hidden = note.textContent === "";
  }
  input.placeholder = column.missing ? t("blank") : "";
  const back = field.querySelector(".back");
  back.hidden = !changed(column);
  back.textContent = t("back", named(column.start));
  back.setAttribute("aria-label", t("backLabel", column.name, named(column.start)));
  field.querySelector(".hint span").textContent = hintOf(column);
  field.classList.toggle("changed", changed(column));
}

function setText(column, text) {
  column.text = text;
  column.fault = "";
  const typing = document.activeElement === column.field?.querySelector("input");
  refreshField(column, !typing);
  refreshGroups();
  later();
}

// ---------------------------------------------------------------- the row: lists to search

let open = null; // the list that is open: {input, list, close}

/** Makes an input a combobox of a column's values, as ARIA's practices describe one. */
function combobox(column, input) {
  const list = `c${column.index}-list`;
  for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list", "aria-controls": list })) input.setAttribute(name, value);
  let at = -1;
  let items = [];
  let before = ""; // what Escape brings back

  const mark = (place) => {
    at = place < items.length ? place : -1;
    items.forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else {
      input.setAttribute("aria-activedescendant", items[at].id);
      items[at].scrollIntoView({ block: "nearest" });
    }
  };
  const close = () => {
    if (open?.input !== input) return;
    open.list.remove();
    open = null;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const choose = (value) => {
    setText(column, (before = value));
    refreshField(column, true);
    close();
    input.select();
  };
  const unfold = (sought, typed) => {
    close();
    const { found, more } = choices(column, sought);
    items = found.map((value, i) => {
      const item = make("li", { role: "option", id: `${list}-${i}`, textContent: named(value), className: value === column.text.trim() ? "chosen" : "" });
      item.addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps the focus
      item.addEventListener("click", () => choose(value));
      item.dataset.value = value;
      return item;
    });
    const box = make("ul", { className: "options", id: list, role: "listbox", "aria-label": column.name }, ...items);
    if (more) box.append(make("li", { className: "rest", role: "presentation", textContent: t("moreChoices", shown(more)) }));
    if (!items.length) box.append(make("li", { className: "rest", role: "presentation", textContent: t("noChoice") }));
    input.parentElement.append(box);
    open = { input, list: box, close };
    box.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-expanded", "true");
    // Where other texts are known too, Enter takes the one that was typed.
    mark(typed && sought && !column.other ? 0 : found.indexOf(typed ? sought : column.text.trim()));
  };
  // Takes what was typed, as the list writes it; half a word is no text to predict by.
  const settle = () => {
    const typed = input.value.trim();
    if (typed === column.text.trim()) return;
    const folded = typed.toLowerCase();
    const alike = column.known.has(typed) ? [] : (column.values || []).filter((value) => value.toLowerCase() === folded);
    setText(column, alike.length === 1 ? alike[0] : typed);
    refreshField(column, true);
  };

  input.addEventListener("focus", () => {
    before = column.text;
    input.select();
  });
  input.addEventListener("click", () => open?.input === input || unfold(""));
  input.addEventListener("input", () => {
    const typed = input.value.trim();
    if (column.known.has(typed)) setText(column, typed);
    unfold(typed, true);
  });
  input.addEventListener("blur", () => (close(), settle()));
  input.addEventListener("keydown", (event) => {
    const isOpen = open?.input === input;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) unfold("");
      else if (items.length) mark((event.key === "ArrowDown" ? at + 1 : Math.max(at, 0) - 1 + items.length) % items.length);
    } else if (event.key === "Enter" && isOpen) {
      event.preventDefault();
      if (at >= 0) choose(items[at].dataset.value);
      else (close(), settle());
    } else if (event.key === "Escape" && isOpen) {
      event.preventDefault();
      choose(before);
    }
  });
}

/** A category's values that hold what was typed: those that begin so first. */
function choices(column, sought) {
  const folded = sought.toLowerCase();
  const values = column.missing ? ["", ...(column.values || [])] : column.values || [];
  const within = values.filter((value) => value.toLowerCase().includes(folded) && (value || !folded));
  const begins = (value) => Number(!value.toLowerCase().startsWith(folded));
  const ranked = folded ? [...within].sort((a, b) => begins(a) - begins(b)) : within;
  // Where the list is cut, the one that is chosen is seen still.
  let first = 0;
  if (!folded && ranked.length > LISTED) first = Math.max(0, Math.min(ranked.indexOf(column.text.trim()) - 5, ranked.length - LISTED));
  const found = ranked.slice(first, first + LISTED);
  return { found, more: ranked.length - found.length };
}

// ---------------------------------------------------------------- the row: which columns are shown

let groups = []; // {summary, columns}, of the list that is not filtered

function renderColumns() {
  const sought = $("filter").value.trim().toLowerCase();
  const only = $("only").checked;
  const filtered = sought !== "" || only;
  $("tools").hidden = columns.length < 9;
  for (const column of columns) column.field = null;
  open?.close();
  groups = [];
  $("columns").replaceChildren();
  $("found").textContent = "";
  if (!columns.length) {
    $("columns").append(make("p", { className: "hint", textContent: t("noColumns") }));
  } else if (filtered) {
    const found = columns.filter((c) => c.name.toLowerCase().includes(sought) && (!only || changed(c)));
    $("columns").append(fieldsOf(found.slice(0, FOUND)));
    $("found").textContent = t("found", Math.min(found.length, FOUND), found.length);
  } else if (columns.length <= GROUP + 12) {
    $("columns").append(fieldsOf(columns));
  } else {
    for (let start = 0; start < columns.length; start += GROUP) $("columns").append(makeGroup(columns.slice(start, start + GROUP), start === 0));
  }
  refreshGroups();
}

function fieldsOf(some) {
  return make("div", { className: "fields" }, ...some.map(makeField));
}

/** Columns that fold away, whose fields are made when they are unfolded first. */
function makeGroup(some, isOpen) {
  const summary = make("summary");
  const details = make("details", {}, summary);
  let made = false;
  const fill = () => {
    if (!details.open || made) return;
    made = true;
    details.append(fieldsOf(some));
  };
  details.addEventListener("toggle", fill);
  details.open = isOpen;
  fill();
  groups.push({ summary, columns: some });
  return details;
}

function refreshGroups() {
  for (const { summary, columns: some } of groups) {
    const n = some.filter(changed).length;
    const faulty = some.filter(faultOf).map((column) => column.name);
    summary.replaceChildren(t("group", some[0].name, some[some.length - 1].name));
    if (n) summary.append(" ", make("b", { textContent: t("changed", shown(n)) }));
    if (faulty.length) summary.append(" ", make("span", { className: "fault", textContent: `⚠ ${faulty.slice(0, 3).join(", ")}` }));
  }
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
  const rows = [row, ...set.map((column) => row.map((cell, i) => (i === column.index ? column.typical : cell)))];
  try {
    const { model: by, predictions } = await predictRows(rows, underWay.signal);
    if (mine !== serial) return;
    show("");
    latest = { row: predictions[0], variants: set.map((column, i) => ({ column, value: column.text, prediction: predictions[i + 1] })) };
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
  return t("broken", names.slice(0, 3).join(lang === "zh" ? "、" : ", "), names.length > 3 ? shown(count) : 0);
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
      const card = make("div", { className: "task" }, make("b", { textContent: task.name }, " ", make("span", { className: "measure", textContent: t(kind) }, make("span", { textContent: qualityOf(task) }))), make("span", { className: "value" }));
      card.dataset.task = task.name;
      if (kind === "probability") {
        const meter = make("div", { className: "meter", role: "meter", "aria-label": task.name, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, make("span"));
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
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("spoken").textContent = words.join(lang === "zh" ? "，" : ", ")), SPEAK_MS);
  renderMoves();
}

// ---------------------------------------------------------------- what moved it

let allBars = false;

function renderTaskChoice() {
  const chosen = $("task").value;
  $("task").replaceChildren(...tasks.map((task) => make("option", { value: task.name, textContent: task.name })));
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

// ---------------------------------------------------------------- a file: its rows

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
  const behind = (place) => (text[place] === "\r" && place + 1 === text.length && !last ? -1 : place + (text.startsWith("\r\n", place) ? 2 : 1));
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

// ---------------------------------------------------------------- a file: its predictions

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
    return { predictions: [...first.predictions, ...second.predictions], errors: [...(first.errors || []), ...moved] };
  }
}

/** A file's rows with predictions behind them, as pieces of a Blob. */
class Scored {
  constructor(file, signal, progress) {
    Object.assign(this, { file, signal, progress, header: null, started: false, pieces: [], rows: 0, bad: 0, faults: [], delimiter: "," });
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
    const { predictions, errors = [] } = full.length ? await scoreRows(full, this.header, this.signal) : { predictions: [] };
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
    const taken = new Set(this.header.text.split(this.delimiter).map((cell) => cell.trim().replace(/^"(.*)"$/s, "$1")));
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
    outcome = mine.signal.aborted ? { file, state: "stopped" } : { file, state: "failed", why: error.message, told: error.details?.errors };
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
    scored: () => t("scored", file.name, new Intl.NumberFormat(lang).format(scored.rows), new Intl.NumberFormat(lang).format(scored.bad)),
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
  $("faults").querySelector("tbody").replaceChildren(
    ...scored.faults.map(({ line, column, message }) => make("tr", {}, ...[line, column, message].map((textContent, i) => make("td", i === 2 ? { textContent, lang: "en" } : { textContent })))),
  );
}

function takeFiles(files) {
  if (!files.length || $("page").hidden) return;
  if (files.length > 1) return show(t("one"));
  show("");
  scoreFile(files[0]);
}

// ---------------------------------------------------------------- the page

function renderAll() {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
  for (const element of document.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  $("language").textContent = t("other");
  $("language").lang = lang === "zh" ? "en" : "zh-CN";
  if (!model) return;
  $("about").textContent = t("about", String(model.model || "").slice(0, 12), model.epoch, String(model.created || "").slice(0, 10));
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
new ResizeObserver(() => document.documentElement.style.setProperty("--stuck", `${$("tasks").offsetHeight}px`)).observe($("tasks"));
listen();
renderAll();
loadModel();
