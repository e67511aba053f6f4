"use strict";
// A row to edit: a field for each column, lists to search, and which columns are shown.

const GROUP = 48; // columns whose fields are made at once
const FOUND = 60; // columns shown of those that the filter finds
const LISTED = 200; // choices shown of a category
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

// ---------------------------------------------------------------- cells

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

// ---------------------------------------------------------------- fields

/** A column's field, with what follows from its text kept up to date by `refreshField`. */
function makeField(column) {
  const id = `c${column.index}`;
  const input = make("input", {
    type: "text",
    id,
    value: column.text,
    autocomplete: "off",
    spellcheck: false,
    "aria-describedby": `${id}-hint ${id}-fault`,
  });
  const line = make("div", { className: "line" });
  const field = make(
    "div",
    { className: "field" },
    make("label", { for: id, textContent: column.name }),
    line,
  );
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
  const slider = make("input", {
    type: "range",
    min: low,
    max: high,
    step,
    "aria-label": t("slider", column.name),
  });
  slider.addEventListener("input", () => setText(column, String(Number(slider.value))));
  return slider;
}

function hintOf(column) {
  const { kind, low, high, values = [] } = column;
  const parts = [];
  if (kind === "number" && Number.isFinite(low) && Number.isFinite(high))
    parts.push(t("range", shown(low), shown(high)));
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
  if (slider && document.activeElement !== slider)
    slider.value = cellOf(column, column.text).cell ?? column.low;
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

// ---------------------------------------------------------------- lists to search

let open = null; // the list that is open: {input, list, close}

/** Makes an input a combobox of a column's values, as ARIA's practices describe one. */
function combobox(column, input) {
  const list = `c${column.index}-list`;
  for (const [name, value] of Object.entries({
    role: "combobox",
    "aria-expanded": "false",
    "aria-autocomplete": "list",
  }))
    input.setAttribute(name, value);
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
    input.removeAttribute("aria-controls");
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
      const item = make("li", {
        role: "option",
        id: `${list}-${i}`,
        textContent: named(value),
        className: value === column.text.trim() ? "chosen" : "",
      });
      item.addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps the focus
      item.addEventListener("click", () => choose(value));
      item.dataset.value = value;
      return item;
    });
    const box = make(
      "ul",
      { className: "options", id: list, role: "listbox", "aria-label": column.name },
      ...items,
    );
    if (more)
      box.append(
        make("li", { className: "rest", role: "presentation", textContent: t("moreChoices", shown(more)) }),
      );
    if (!items.length)
      box.append(make("li", { className: "rest", role: "presentation", textContent: t("noChoice") }));
    input.parentElement.append(box);
    open = { input, list: box, close };
    box.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-expanded", "true");
    input.setAttribute("aria-controls", list);
    // Where other texts are known too, Enter takes the one that was typed.
    mark(typed && sought && !column.other ? 0 : found.indexOf(typed ? sought : column.text.trim()));
  };
  // Takes what was typed, as the list writes it; half a word is no text to predict by.
  const settle = () => {
    const typed = input.value.trim();
    if (typed === column.text.trim()) return;
    const folded = typed.toLowerCase();
    const alike = column.known.has(typed)
      ? []
      : (column.values || []).filter((value) => value.toLowerCase() === folded);
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
    if (event.isComposing) return; // Enter and arrows are the input method's
    const isOpen = open?.input === input;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) unfold("");
      else if (items.length)
        mark((event.key === "ArrowDown" ? at + 1 : Math.max(at, 0) - 1 + items.length) % items.length);
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
  if (!folded && ranked.length > LISTED)
    first = Math.max(0, Math.min(ranked.indexOf(column.text.trim()) - 5, ranked.length - LISTED));
  const found = ranked.slice(first, first + LISTED);
  return { found, more: ranked.length - found.length };
}

// ---------------------------------------------------------------- which columns are shown

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
    for (let start = 0; start < columns.length; start += GROUP)
      $("columns").append(makeGroup(columns.slice(start, start + GROUP), start === 0));
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
    if (faulty.length)
      summary.append(
        " ",
        make("span", { className: "fault", textContent: `⚠ ${faulty.slice(0, 3).join(", ")}` }),
      );
  }
}
