// The live page of `hpogen watch`: what the server's events say, as text and on canvases.
// Whatever comes from a study is set as textContent or drawn: none of it is ever markup.

const PART = 1500; // lines of the parallel coordinates that are drawn in one frame
const REDRAW_MS = 10000; // lines that were only added are drawn anew, in the order of their scores
const BINS = 16; // colours of the scores
const dark = matchMedia("(prefers-color-scheme: dark)");
const $ = (id) => document.getElementById(id);

let head = null;
let state = {};
let told = empty();
let drawn = fresh(); // of the parallel coordinates
let frame = 0;

function empty() {
  return { trial: [], budget: [], score: [], whole: [], x: [], heights: [] };
}

// `lines` are drawn or in the `queue`; `at` is when the drawing was begun, `best` whose line is bold.
function fresh() {
  return { lines: 0, queue: [], at: 0, best: null };
}

// ---- text ----

function put(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

// Replace the children of a node only where what they show has changed: nobody's focus is lost.
function fill(id, shown, children) {
  const node = $(id);
  const text = JSON.stringify(shown);
  if (node.dataset.shown === text) return;
  node.dataset.shown = text;
  node.replaceChildren(...children());
}

function cells(texts, words = []) {
  return texts.map((text, i) => make("td", text, words.includes(i) ? "words" : ""));
}

function row(children) {
  const node = document.createElement("tr");
  node.append(...children);
  return node;
}

function heads(id, titles) {
  fill(id, titles, () => titles.map((title) => {
    const node = make("th", title, title === "configuration" ? "words" : "");
    node.scope = "col";
    return node;
  }));
}

function linked(text, address) {
  const node = make("td");
  const link = make("a", text);
  link.href = address;
  node.append(link);
  return node;
}

// ---- what comes ----

function follow() {
  const events = new EventSource("events");
  events.onmessage = (event) => {
    const begin = performance.now();
    take(JSON.parse(event.data));
    requestAnimationFrame(() => setTimeout(() => {
      performance.measure("update", { start: begin, end: performance.now() });
      document.body.dataset.updates = Number(document.body.dataset.updates ?? 0) + 1;
    }));
  };
  events.onerror = () => badge("lost", "connection lost: is hpogen watch still running?");
}

function take(message) {
  if (message.matrix) return showMatrix(message.matrix);
  if (message.head) {
    head = message.head;
    told = empty();
    drawn = fresh();
    $("study").hidden = false;
    $("back").hidden = !head.matrix;
    put("name", head.name);
    put("about", `${head.searcher} · ${head.rule}`);
    document.title = `${head.name} · hpogen watch`;
    heads("running-head", ["trial", "epoch", ...head.metrics, "on", "log", "configuration"]);
    heads("latest-head", ["trial", "score", ...head.metrics, "epochs", "time", "", "configuration"]);
  }
  if (message.told) add(message.told);
  if (message.state) {
    state = message.state;
    showState();
  }
  draw();
}

function add(more) {
  let x = told.x.at(-1) ?? 0;
  for (const budget of more.budget) told.x.push((x += budget));
  for (const key of ["trial", "budget", "score", "whole"]) told[key].push(...more[key]);
  more.heights.forEach((column, i) => {
    told.heights[i] ??= [];
    told.heights[i].push(...column);
  });
}

function badge(kind, text) {
  if ($("state").dataset.state !== kind) $("state").dataset.state = kind;
  put("state", text);
}

function problem(text) {
  $("problem").hidden = !text;
  put("problem", text ? `${text}; below is what was read before` : "");
}

function showState() {
  badge(state.state, state.state);
  put("process", state.process ?? "");
  problem(state.problem);
  $("share").value = state.share;
  put("trials", state.trials);
  put("epochs", state.epochs);
  put("left", state.left.replace(/ left$/, "") || "–");
  const best = state.best;
  put("best", best ? `trial ${best.trial}, score ${best.score}` : "none yet");
  put("best-config", best ? best.config : "");
  fill("summary", state.summary, () => state.summary.map((text) => make("p", text)));
  showRunning();
  showFailures();
  fill("latest", state.latest, () => state.latest.map((one) => {
    const failed = make("td", one.failed, "failed words");
    const texts = cells([one.score, ...one.metrics, one.epochs, one.time]);
    return row([linked(one.trial, `log/${one.trial}`), ...texts, failed, make("td", one.config, "words")]);
  }));
}

function showRunning() {
  const any = state.running.length > 0;
  put("h-running", state.state === "running" || !any ? "Running" : "Stopped under way");
  put("idle", any ? "" : "No trial is under way.");
  $("curves-figure").hidden = $("running-scroll").hidden = !any;
  put("more", state.more ? `and ${state.more} more` : "");
  const shown = state.running.map((one) => ({ ...one, points: [] }));
  fill("running", shown, () => shown.map((one, i) => {
    const name = make("td");
    const swatch = make("span", "", "swatch");
    swatch.style.background = `var(--arm${i % 7})`;
    swatch.setAttribute("aria-hidden", "true");
    name.append(swatch, String(one.trial));
    const texts = cells([one.epoch, ...one.metrics, one.on]);
    return row([name, ...texts, linked("log", `log/${one.trial}`), make("td", one.config, "words")]);
  }));
}

function showFailures() {
  $("none-failed").hidden = state.failures.length > 0;
  fill("failures", state.failures, () => state.failures.map((kind) => {
    const node = document.createElement("div");
    node.append(make("h3", kind.title));
    for (const one of kind.trials) {
      const line = make("p");
      const link = make("a", `trial ${one.trial}`);
      link.href = `log/${one.trial}`;
      link.title = "its log";
      line.append(link, `: ${one.text}`);
      node.append(line);
      if (one.log) node.append(make("pre", one.log));
    }
    return node;
  }));
}

function showMatrix(found) {
  $("matrix").hidden = false;
  put("name", found.name);
  document.title = `${found.name} · hpogen watch`;
  put("about", found.title);
  problem(found.studies.map((one) => one.problem).filter(Boolean).join("; "));
  const runs = found.studies.some((one) => one.state === "running");
  badge(runs ? "running" : "stopped", runs ? "running" : "not running");
  $("whole").value = found.share;
  fill("studies", found.studies, () => found.studies.map((one) => {
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = one.share;
    bar.setAttribute("aria-label", `how far ${one.name} is`);
    const share = document.createElement("td");
    share.append(bar);
    const name = linked(one.name, `/study/${encodeURIComponent(one.name)}/`);
    name.className = "words";
    const rest = [one.trials, one.epochs, one.running, one.failed, one.best, one.score];
    return row([name, make("td", one.state), share, ...cells(rest)]);
  }));
}

// ---- canvases ----

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A canvas of the size that it has in the page, cleared; null while it is not shown.
function canvas(id, keep = false) {
  const node = $(id);
  const ratio = devicePixelRatio;
  const [w, h] = [node.clientWidth, node.clientHeight];
  if (!w || !h) return null;
  const [pixels, rows] = [Math.round(w * ratio), Math.round(h * ratio)];
  const same = node.width === pixels && node.height === rows;
  if (!same) [node.width, node.height] = [pixels, rows];
  const pen = node.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (!keep) pen.clearRect(0, 0, w, h);
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  return { pen, w, h, same };
}

function number(x) {
  if (x === 0 || (Math.abs(x) >= 1000 && Math.abs(x) < 1e6)) return Math.round(x).toLocaleString("en");
  if (Math.abs(x) >= 0.01 && Math.abs(x) < 1000) return x.toPrecision(3);
  return x.toExponential(1).replace("+", "");
}

// Round values between two ends, about n of them; no nearer to each other than `least`.
function ticks(low, high, n = 4, least = 0) {
  const rough = Math.max((high - low) / n, least) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((x) => x * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i <= high / step + 1e-6; i += 1) found.push(i * step);
  return found;
}

function short(x) {
  return Math.abs(x) >= 1e6 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(0).replace("+", "")
    : Number(x.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
}

// Axes with a grid; functions from data to pixels.
function frameOf(sheet, [x0, x1], [y0, y1], label) {
  const { pen, w, h } = sheet;
  const [left, right, top, bottom] = [52, 10, 10, 36];
  const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (w - left - right);
  const py = (y) => h - bottom - ((y - y0) / (y1 - y0 || 1)) * (h - top - bottom);
  pen.strokeStyle = colour("grid");
  pen.fillStyle = colour("muted");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const y of ticks(y0, y1)) {
    pen.beginPath();
    pen.moveTo(left, py(y));
    pen.lineTo(w - right, py(y));
    pen.stroke();
    pen.fillText(short(y), left - 6, py(y));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const x of ticks(x0, x1, Math.max(2, Math.min(8, w / 110)), 1)) {
    pen.fillText(short(x), Math.min(Math.max(px(x), left), w - right - 12), h - bottom + 5);
  }
  pen.fillText(label, (left + w - right) / 2, h - 15);
  return { px, py, top, bottom: h - bottom };
}

function drawCurves() {
  if (!head || !state.running?.length) return;
  const sheet = canvas("curves");
  if (!sheet) return;
  const curves = state.running.map((one) => one.points);
  const best = state.best?.points ?? [];
  const all = [...curves, best].flat();
  put("curves-caption", `${head.curve} by epoch of the trials under way` +
    (best.length > 1 ? `; dashed: the best so far, trial ${state.best.trial}` : ""));
  if (!all.length) return;
  const { pen } = sheet;
  const values = all.map((point) => point[1]);
  const [low, high] = clipped(values);
  const room = 0.06 * (high - low) || 0.5;
  const last = Math.max(head.budget, ...all.map((point) => point[0]));
  const at = frameOf(sheet, [Math.min(1, last - 1), last], [low - room, high + room], "epoch");
  const line = (points, style, dash, width) => {
    pen.strokeStyle = pen.fillStyle = style;
    pen.lineWidth = width;
    pen.setLineDash(dash);
    pen.beginPath();
    points.forEach(([x, y], i) => {
      const [a, b] = [at.px(x), Math.max(at.py(y), at.top)];
      if (i) pen.lineTo(a, b); else pen.moveTo(a, b);
    });
    pen.stroke();
    pen.setLineDash([]);
    const end = points.at(-1);
    if (end && !dash.length) {
      pen.beginPath();
      pen.arc(at.px(end[0]), Math.max(at.py(end[1]), at.top), 3, 0, 7);
      pen.fill();
    }
  };
  if (best.length > 1) line(best, colour("muted"), [5, 4], 1.5);
  curves.forEach((points, i) => line(points, colour(`arm${i % 7}`), [], 2));
}

// The least value, and a largest one that a few extreme ones do not push far off.
function clipped(values) {
  const sorted = Float64Array.from(values).sort();
  const [low, high] = [sorted[0], sorted.at(-1)];
  const most = sorted[Math.floor(0.9 * (sorted.length - 1))];
  const cut = low + 2.5 * (most - low);
  return [low, most > low && cut < high ? cut : high];
}

function finite() {
  return told.score.filter((score) => score !== null);
}

function drawScores() {
  if (!head) return;
  const sheet = canvas("scores");
  if (!sheet) return;
  const { pen, w } = sheet;
  const scores = finite();
  const failed = told.score.length - scores.length;
  if (!scores.length) return put("scores-caption", "No trial has been told with a score yet.");
  const [low, high] = clipped(scores);
  const room = 0.06 * (high - low) || 0.5;
  const at = frameOf(sheet, [0, told.x.at(-1)], [low - room, high + room], "epochs charged");
  const size = told.x.length > 2000 ? 2 : told.x.length > 300 ? 3 : 5;
  let [above, lower] = [0, 0];
  const dot = (i) => {
    const over = told.score[i] > high;
    above += over;
    const y = over ? at.top : at.py(told.score[i]);
    pen.fillRect(at.px(told.x[i]) - size / 2, y - size / 2, size, size);
  };
  pen.globalAlpha = told.x.length > 2000 ? 0.55 : 0.8;
  pen.fillStyle = colour("muted");
  told.score.forEach((score, i) => { if (score !== null && !told.whole[i]) { dot(i); lower += 1; } });
  pen.fillStyle = colour("arm0");
  told.score.forEach((score, i) => { if (score !== null && told.whole[i]) dot(i); });
  pen.globalAlpha = 1;
  pen.fillStyle = colour("bad");
  told.score.forEach((score, i) => { if (score === null) pen.fillRect(at.px(told.x[i]) - 0.75, at.bottom - 7, 1.5, 7); });
  if (head.compares) drawBest(pen, at, high);
  ring(pen, at, high);
  put("scores-caption", [
    `${told.trial.length.toLocaleString("en")} trials in the order of being told`,
    head.compares ? "line: the best score so far" : "ranks of different cohorts do not compare: no line of the best",
    state.best ? "ringed: the answer so far" : "",
    lower ? "grey: of a smaller budget, duplicates and repeats" : "",
    above ? `at the upper edge, of higher scores: ${above.toLocaleString("en")}` : "",
    failed ? `ticks at the lower edge, without a score: ${failed.toLocaleString("en")}` : "",
  ].filter(Boolean).join("; "));
}

function drawBest(pen, at, high) {
  let best = Infinity;
  pen.strokeStyle = colour("arm1");
  pen.lineWidth = 2;
  pen.beginPath();
  told.score.forEach((score, i) => {
    if (score === null || !told.whole[i] || score >= best) return;
    const y = Math.max(at.py(Math.min(score, high)), at.top);
    if (best === Infinity) pen.moveTo(at.px(told.x[i]), y);
    else {
      pen.lineTo(at.px(told.x[i]), Math.max(at.py(Math.min(best, high)), at.top));
      pen.lineTo(at.px(told.x[i]), y);
    }
    best = score;
  });
  if (best < Infinity) pen.lineTo(at.px(told.x.at(-1)), Math.max(at.py(Math.min(best, high)), at.top));
  pen.stroke();
}

function ring(pen, at, high) {
  const i = state.best ? told.trial.indexOf(state.best.trial) : -1;
  if (i < 0 || told.score[i] === null) return;
  pen.strokeStyle = colour("ink");
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(at.px(told.x[i]), Math.max(at.py(Math.min(told.score[i], high)), at.top), 6, 0, 7);
  pen.stroke();
}

// ---- parallel coordinates ----

// Where the axes stand: side by side, or one below the other where there is no room for that.
function axesOf(sheet) {
  const n = head.axes.length;
  const down = sheet.w < 600;
  const [before, after] = down ? [26, 30] : [70, 70];
  const length = (down ? sheet.h : sheet.w) - before - after;
  const along = (i) => before + (n > 1 ? (i * length) / (n - 1) : length / 2);
  const [low, high] = down ? [8, sheet.w - 8] : [sheet.h - 46, 12];
  const across = (share) => low + (share / 1000) * (high - low);
  return { down, along, across, point: (i, share) => down ? [across(share), along(i)] : [along(i), across(share)] };
}

function drawAxes(sheet, axes) {
  const { pen, w } = sheet;
  head.axes.forEach((axis, i) => {
    pen.strokeStyle = colour("muted");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(...axes.point(i, 0));
    pen.lineTo(...axes.point(i, 1000));
    pen.stroke();
    const name = axis.name + (axis.log ? " (log)" : "");
    const texts = axis.ticks;
    if (axes.down) {
      label(pen, texts[0], axes.across(0), axes.along(i) + 4, "left", "muted");
      label(pen, texts.at(-1), axes.across(1000), axes.along(i) + 4, "right", "muted");
      label(pen, name, w / 2, axes.along(i) + 4, "center", "ink");
    } else {
      const edge = i === 0 ? "left" : i === head.axes.length - 1 ? "right" : "center";
      const x = axes.along(i) + (edge === "left" ? -66 : edge === "right" ? 66 : 0);
      label(pen, name, x, axes.across(0) + 20, edge, "ink");
      texts.slice(0, 12).forEach((text, j) => {
        const share = texts.length > 1 ? (1000 * j) / (texts.length - 1) : 0;
        label(pen, text, axes.along(i) + 4, axes.across(share) - 7, "left", "muted");
      });
    }
  });
}

// A text that is read upon whatever lies below it.
function label(pen, text, x, y, align, name) {
  pen.textAlign = align;
  pen.textBaseline = "top";
  pen.strokeStyle = colour("paper");
  pen.lineWidth = 3;
  pen.strokeText(text, x, y);
  pen.fillStyle = colour(name);
  pen.fillText(text, x, y);
}

function mixed(share) {
  const parse = (name) => colour(name).match(/\w\w/g).map((x) => parseInt(x, 16));
  const [good, poor] = [parse("good"), parse("poor")];
  return `rgb(${good.map((x, i) => Math.round(x + share * (poor[i] - x))).join(" ")})`;
}

function line(pen, axes, i) {
  pen.beginPath();
  let pending = true; // an axis whose parameter is not active interrupts the line
  for (let a = 0; a < head.axes.length; a += 1) {
    const share = told.heights[a][i];
    if (share === null) { pending = true; continue; }
    const [x, y] = axes.point(a, share);
    if (pending) pen.moveTo(x, y); else pen.lineTo(x, y);
    pending = false;
  }
  pen.stroke();
}

// Draw the lines in parts, a part in each frame, so that the page answers meanwhile; with `anew`
// all of them, else those that are not drawn yet.
function drawSpace(anew) {
  if (!head || !head.axes.length) return;
  const sheet = canvas("space", !anew);
  if (!sheet) return;
  if (anew || !sheet.same) drawn = { ...fresh(), at: performance.now() };
  const chosen = [];
  for (let i = drawn.lines; i < told.score.length; i += 1) if (told.score[i] !== null) chosen.push(i);
  chosen.sort((i, j) => told.score[j] - told.score[i]); // the best on top
  drawn.queue.push(...chosen);
  drawn.lines = told.score.length;
  drawn.best = state.best?.trial ?? null;
  cancelAnimationFrame(frame);
  part(sheet);
}

function part(sheet) {
  const axes = axesOf(sheet);
  const sorted = Float64Array.from(finite()).sort();
  const colours = Array.from({ length: BINS }, (_, bin) => mixed(bin / (BINS - 1)));
  const alphas = colours.map((_, bin) => opacity(sorted.length, bin));
  const { pen } = sheet;
  pen.lineWidth = 1;
  for (const i of drawn.queue.splice(0, PART)) {
    const bin = Math.floor((BINS * place(sorted, told.score[i])) / sorted.length);
    pen.globalAlpha = alphas[bin];
    pen.strokeStyle = colours[bin];
    line(pen, axes, i);
  }
  pen.globalAlpha = 1;
  drawAxes(sheet, axes);
  if (drawn.queue.length) frame = requestAnimationFrame(() => part(sheet));
  else finish(sheet, axes, sorted);
}

// Of a line: the more there are the less, but for the best ones.
function opacity(n, bin) {
  const [best, rest] = [1200 / n, 120 / n].map((x) => Math.min(Math.max(x, 0.02), 0.8));
  return Math.max(rest, best * (1 - bin / 4));
}

// How many of the sorted numbers are less than x.
function place(sorted, x) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1; else high = middle;
  }
  return low;
}

function finish(sheet, axes, sorted) {
  const best = state.best ? told.trial.indexOf(state.best.trial) : -1;
  if (best >= 0) {
    sheet.pen.strokeStyle = colour("ink");
    sheet.pen.lineWidth = 2;
    line(sheet.pen, axes, best);
    drawAxes(sheet, axes);
  }
  ramp();
  put("low", sorted.length ? `best ${number(sorted[0])}` : "");
  put("high", sorted.length ? `${number(sorted.at(-1))} worst` : "");
  put("space-caption", `${sorted.length.toLocaleString("en")} trials with a score, coloured by its rank` +
    (best >= 0 ? `; ${dark.matches ? "white" : "black"}: the answer so far` : "") +
    "; each axis is a parameter's range, logarithmic where the space is");
  if (!performance.getEntriesByName("drawn").length) performance.mark("drawn");
  document.body.dataset.lines = drawn.lines;
}

function ramp() {
  const sheet = canvas("ramp");
  if (!sheet) return;
  for (let i = 0; i < BINS; i += 1) {
    sheet.pen.fillStyle = mixed(i / (BINS - 1));
    sheet.pen.fillRect((i * sheet.w) / BINS, 0, sheet.w / BINS + 1, sheet.h);
  }
}

function draw(anew = false) {
  drawCurves();
  drawScores();
  const few = told.score.length <= PART;
  const late = performance.now() - drawn.at > REDRAW_MS;
  const other = drawn.best !== (state.best?.trial ?? null);
  drawSpace(anew || few || late || other);
}

let width = 0;
new ResizeObserver(() => {
  if (width === document.body.clientWidth) return;
  width = document.body.clientWidth;
  requestAnimationFrame(() => head && draw(true));
}).observe(document.body);
dark.addEventListener("change", () => head && draw(true));
follow();
