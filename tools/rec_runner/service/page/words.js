"use strict";
// The words of the page in both languages, and numbers as people read them.

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
