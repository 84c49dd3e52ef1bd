"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const n = data.frames;
const many = data.maps.length;
const step = 1 / data.rate;

function bytes(text) {
  const plain = atob(text);
  const out = new Uint8Array(plain.length);
  for (let i = 0; i < plain.length; i++) out[i] = plain.charCodeAt(i);
  return out;
}

// 256 colours, straight lines between a few.
const palette = new Uint8ClampedArray(256 * 4);
for (let i = 0; i < 256; i++) {
  const at = (i / 255) * (data.magma.length - 1);
  const low = Math.min(Math.floor(at), data.magma.length - 2);
  for (let c = 0; c < 3; c++) {
    const [a, b] = [data.magma[low][c], data.magma[low + 1][c]];
    palette[4 * i + c] = a + (b - a) * (at - low);
  }
  palette[4 * i + 3] = 255;
}
const colours = new Uint32Array(palette.buffer);

function picture(shades, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const points = new Uint32Array(image.data.buffer);
  for (let i = 0; i < shades.length; i++) points[i] = colours[shades[i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const maps = data.maps.map(bytes);
const weight = (h, q, k) =>
  data.scales[h] * (maps[h][q * n + k] / 255) ** 2;

// The spectrogram for the top (time across) and for the left (time down).
const shades = bytes(data.spectrogram);
const across = new Uint8Array(shades.length);
const down = new Uint8Array(shades.length);
for (let b = 0; b < data.bands; b++) {
  for (let t = 0; t < n; t++) {
    const shade = shades[b * n + t];
    across[(data.bands - 1 - b) * n + t] = shade;
    down[t * data.bands + (data.bands - 1 - b)] = shade;
  }
}
const topPicture = picture(across, n, data.bands);
const leftPicture = picture(down, data.bands, n);

let chosen = 0;
let point = null; // {q, k}: under the pointer, or held
let held = false;
let span = n - 1;

const seconds = (frame) => (frame + 0.5) * step;
const frameAt = (time) =>
  Math.min(n - 1, Math.max(0, Math.floor(time * data.rate)));
const phoneAt = (time) => {
  const found = data.phones.find(([a, b]) => a <= time && time < b);
  return found ? found[2] : "";
};
const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---- all heads

function thumbnail(h) {
  const size = Math.min(96, n);
  const small = new Uint8Array(size * size);
  for (let q = 0; q < n; q++) {
    const row = Math.floor((q * size) / n) * size;
    for (let k = 0; k < n; k++) {
      // The largest of a block: thin diagonals stay.
      const at = row + Math.floor((k * size) / n);
      const value = maps[h][q * n + k];
      if (value > small[at]) small[at] = value;
    }
  }
  return picture(small, size, size);
}

const buttons = data.rows.map((row, h) => {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.head = h;
  button.title = `${data.names[h]}: ${row.category}`;
  button.setAttribute("aria-label", button.title);
  const dot = document.createElement("i");
  dot.className = row.category;
  const canvas = thumbnail(h);
  button.append(canvas, dot, `${row.layer + 1}.${row.head + 1}`);
  button.addEventListener("click", () => choose(h));
  return button;
});

function group(title, about, members) {
  if (!members.length) return;
  const head = document.createElement("h3");
  const more = document.createElement("span");
  more.textContent = ` ${about}`;
  head.append(title, more);
  const box = document.createElement("div");
  box.className = "thumbs";
  box.append(...members.map((h) => buttons[h]));
  $("heads").append(head, box);
}

function sort(by) {
  $("by-layer").setAttribute("aria-pressed", by === "layer");
  $("by-category").setAttribute("aria-pressed", by === "category");
  $("heads").replaceChildren();
  const all = [...data.rows.keys()];
  if (by === "layer") {
    for (let i = 0; i < data.layers; i++) {
      group(`Layer ${i + 1}`, "", all.filter((h) => data.rows[h].layer === i));
    }
    return;
  }
  for (const [kind, about] of data.categories) {
    const members = all.filter((h) => data.rows[h].category === kind);
    const rank = `${kind}_rank`;
    members.sort((a, b) => data.rows[a][rank] - data.rows[b][rank]);
    const title = kind[0].toUpperCase() + kind.slice(1);
    group(title, about, members);
  }
}
$("by-layer").addEventListener("click", () => sort("layer"));
$("by-category").addEventListener("click", () => sort("category"));

// ---- one head

const place = {}; // of the map in its canvas, in CSS pixels

function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11.5px system-ui, sans-serif";
  return pen;
}

function lay() {
  const width = $("stage").clientWidth;
  const narrow = width < 480;
  place.band = narrow ? 28 : 46;
  place.said = data.phones.length ? 17 : 4;
  place.axis = narrow ? 29 : 40;
  place.x = place.axis + place.said + place.band + 4;
  place.y = place.said + place.band + 4;
  place.size = width - place.x - 8;
  place.row = 64; // of the weights of one query
  place.width = width;
  place.height = place.y + place.size + 36 + place.row + 16;
}

function ticks() {
  const most = place.size / 56;
  const steps = [0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 60];
  const total = n * step;
  const size = steps.find((s) => total / s <= most) || 120;
  const out = [];
  for (let i = 0; i * size <= total; i++) out.push(i * size);
  return out;
}

const along = (time) => (time / (n * step)) * place.size;

// The map of the chosen head, within the span, as shades of its largest.
function shadesWithin() {
  const map = maps[chosen];
  if (span >= n - 1) return map;
  const values = new Float32Array(n * n);
  let most = 0;
  for (let q = 0; q < n; q++) {
    const [low, high] = [Math.max(0, q - span), Math.min(n - 1, q + span)];
    let total = 0;
    for (let k = low; k <= high; k++) total += map[q * n + k] ** 2;
    for (let k = low; k <= high; k++) {
      const alike = 1 / (high - low + 1);
      const value = total ? map[q * n + k] ** 2 / total : alike;
      values[q * n + k] = value;
      if (value > most) most = value;
    }
  }
  return Uint8Array.from(values, (v) => Math.round(255 * Math.sqrt(v / most)));
}

function drawMap() {
  lay();
  const pen = fit($("map"), place.width, place.height);
  const { x, y, size, band } = place;
  pen.imageSmoothingEnabled = n > size;
  pen.drawImage(picture(shadesWithin(), n, n), x, y, size, size);
  pen.drawImage(topPicture, x, y - 4 - band, size, band);
  pen.drawImage(leftPicture, x - 4 - band, y, band, size);
  pen.fillStyle = colour("--soft");
  pen.strokeStyle = colour("--soft");
  for (const time of ticks()) {
    const at = along(time);
    const text = String(+time.toFixed(2));
    pen.textAlign = "center";
    pen.fillText(text, x + Math.min(at, size - 8), y + size + 17);
    pen.fillRect(x + at, y + size, 1, 4);
    pen.textAlign = "right";
    pen.fillText(text, place.axis - 6, y + Math.max(9, at + 4));
    pen.fillRect(place.axis - 4, y + at, 4, 1);
  }
  pen.textAlign = "center";
  pen.fillText("key, seconds", x + size / 2, y + size + 31);
  if (place.axis > 30) {
    pen.save();
    pen.translate(9, y + size / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText("query, seconds", 0, 0);
    pen.restore();
  }
  drawPhones(pen);
}

function drawPhones(pen) {
  const { x, y, size } = place;
  for (const [start, end, name] of data.phones) {
    const [a, b] = [along(start), Math.min(size, along(end))];
    pen.fillStyle = "rgb(255 255 255 / 28%)";
    for (const at of [a, b]) {
      pen.fillRect(x + at, y, 1, size);
      pen.fillRect(x, y + at, size, 1);
    }
    pen.fillStyle = colour("--soft");
    for (const at of [a, b]) {
      pen.fillRect(x + at, y - place.band - 8, 1, 4);
      pen.fillRect(x - place.band - 8, y + at, 4, 1);
    }
    pen.fillStyle = colour("--ink");
    if (b - a >= pen.measureText(name).width + 1) {
      pen.textAlign = "center";
      pen.fillText(name, x + (a + b) / 2, 11);
    }
    if (b - a >= 10) {
      pen.textAlign = "center";
      pen.fillText(name, place.axis + 7, y + (a + b) / 2 + 4);
    }
  }
}

// Weight within the span, of one query.
function rowWithin(q) {
  const [low, high] = [Math.max(0, q - span), Math.min(n - 1, q + span)];
  const row = new Float64Array(n);
  let total = 0;
  for (let k = low; k <= high; k++) total += row[k] = weight(chosen, q, k);
  if (span < n - 1) {
    for (let k = low; k <= high; k++) {
      row[k] = total ? row[k] / total : 1 / (high - low + 1);
    }
  }
  return row;
}

function drawOver() {
  const pen = fit($("over"), place.width, place.height);
  const { x, y, size } = place;
  const cell = size / n;
  const player = $("sound");
  if (!player.paused || player.currentTime > 0) {
    const at = along(Math.min(player.currentTime, n * step));
    pen.fillStyle = "#5fd0ff";
    pen.fillRect(x + at, y - 4 - place.band, 1.5, size + 4 + place.band);
    pen.fillRect(x - 4 - place.band, y + at, size + 4 + place.band, 1.5);
  }
  if (point) {
    const [px, py] = [x + point.k * cell, y + point.q * cell];
    const wide = Math.max(1, cell);
    pen.fillStyle = held ? "rgb(255 255 255 / 75%)" : "rgb(255 255 255 / 50%)";
    const [mx, my] = [px + wide / 2 - 0.5, py + wide / 2 - 0.5];
    pen.fillRect(mx, y - 4 - place.band, 1, size + 4 + place.band);
    pen.fillRect(x - 4 - place.band, my, size + 4 + place.band, 1);
    pen.strokeStyle = "#fff";
    pen.strokeRect(mx - 4, my - 4, 9, 9);
  }
  drawRow(pen);
}

function drawRow(pen) {
  const { x, y, size } = place;
  const base = y + size + 36 + place.row;
  pen.fillStyle = colour("--line");
  pen.fillRect(x, base, size, 1);
  pen.fillStyle = colour("--soft");
  pen.textAlign = "center";
  if (!point) {
    pen.fillText("the weights of one query, as the pointer moves", x + size / 2, base - 24);
    return;
  }
  const row = rowWithin(point.q);
  const most = Math.max(...row);
  pen.fillStyle = colour("--bar");
  for (let k = 0; k < n; k++) {
    const tall = (row[k] / most) * (place.row - 4);
    pen.fillRect(x + (k * size) / n, base - tall, Math.max(1, size / n - 0.4), tall);
  }
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  pen.fillText(most.toPrecision(2), x - 6, base - place.row + 12);
  pen.fillText("0", x - 6, base);
}

function part(text, strong) {
  const node = document.createElement(strong ? "b" : "span");
  node.textContent = text;
  return node;
}

function readout() {
  const line = $("readout");
  $("play-query").disabled = $("play-key").disabled = !point;
  if (!point) {
    line.textContent = "Move over the map to read a weight.";
    return;
  }
  const [query, key] = [seconds(point.q), seconds(point.k)];
  const value = rowWithin(point.q)[point.k];
  const said = (time) => {
    const name = phoneAt(time);
    return name ? ` [${name}]` : "";
  };
  line.replaceChildren(
    part("query "), part(`${query.toFixed(2)} s${said(query)}`, true),
    part(" looks at key "), part(`${key.toFixed(2)} s${said(key)}`, true),
    part(" with weight "), part(value.toPrecision(3), true),
    part(`, ${(value * n).toPrecision(2)} times uniform`),
  );
}

function move(q, k) {
  point = { q: Math.min(n - 1, Math.max(0, q)), k: Math.min(n - 1, Math.max(0, k)) };
  readout();
  drawOver();
}

function play(time) {
  const player = $("sound");
  player.currentTime = Math.max(0, Math.min(time, data.seconds - 0.01));
  player.play().catch(() => {});
  follow();
}

let following = false;
function follow() {
  if (following) return;
  following = true;
  const turn = () => {
    drawOver();
    following = !$("sound").paused;
    if (following) requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
}
$("sound").addEventListener("play", follow);
$("sound").addEventListener("seeked", () => drawOver());

// Where an event lies: in the map, above it or beside it.
function where(event) {
  const box = $("map").getBoundingClientRect();
  const [a, b] = [event.clientX - box.left - place.x, event.clientY - box.top - place.y];
  const [k, q] = [Math.floor((a / place.size) * n), Math.floor((b / place.size) * n)];
  return { q, k, across: k >= 0 && k < n, down: q >= 0 && q < n };
}

$("map").addEventListener("pointermove", (event) => {
  const at = where(event);
  if (!held && at.across && at.down) move(at.q, at.k);
});
$("map").addEventListener("pointerleave", () => {
  if (held) return;
  point = null;
  readout();
  drawOver();
});
$("map").addEventListener("click", (event) => {
  const at = where(event);
  if (at.across && at.down) {
    held = true;
    move(at.q, at.k);
    play(at.q * step);
  } else if (at.across && at.q < 0) {
    play(at.k * step);
  } else if (at.down && at.k < 0) {
    play(at.q * step);
  }
});
$("map").addEventListener("keydown", (event) => {
  const moves = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
  };
  if (moves[event.key]) {
    event.preventDefault();
    held = true;
    const [q, k] = moves[event.key];
    const far = event.shiftKey ? 10 : 1;
    const from = point || { q: n >> 1, k: n >> 1 };
    move(from.q + far * q, from.k + far * k);
  } else if (event.key === "Enter" && point) {
    play(point.q * step);
  } else if (event.key === "Escape") {
    held = false;
    point = null;
    readout();
    drawOver();
  }
});
$("play-query").addEventListener("click", () => point && play(point.q * step));
$("play-key").addEventListener("click", () => point && play(point.k * step));

function kept() {
  const map = maps[chosen];
  let [inside, total] = [0, 0];
  for (let q = 0; q < n; q++) {
    for (let k = 0; k < n; k++) {
      const value = map[q * n + k] ** 2;
      total += value;
      if (Math.abs(q - k) <= span) inside += value;
    }
  }
  return inside / total;
}

function spanText() {
  $("span-text").textContent =
    span >= n - 1
      ? "All of the clip. Narrow it to see what a head does near the query."
      : `Keys within ${(span * step).toFixed(2)} s of the query, ${(100 * kept()).toFixed(0)} % of the weight, renormalised.`;
}
$("span").max = n - 1; // before the value, which is cut to it
$("span").value = n - 1;
$("span").addEventListener("input", () => {
  span = Number($("span").value);
  spanText();
  drawMap();
  drawOver();
  readout();
});

const ordinal = (i) => {
  const end = i % 100 > 10 && i % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][i % 10] || "th";
  return i + end;
};

function metric(name, value, unit, share, rank, word) {
  const term = document.createElement("dt");
  term.append(part(name), part(`${value}${unit}`, true));
  const about = document.createElement("dd");
  if (share !== null) {
    const meter = document.createElement("div");
    meter.className = "meter";
    const fill = document.createElement("div");
    fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    meter.append(fill);
    about.append(meter);
  }
  if (rank !== null) about.append(`${ordinal(rank + 1)} of ${many} most ${word}`);
  $("metrics").append(term, about);
}

function describe() {
  const row = data.rows[chosen];
  const most = Math.log(n) || 1;
  const name = data.names[chosen];
  $("title").textContent = `One head: ${name}`;
  $("name").textContent = name[0].toUpperCase() + name.slice(1);
  $("chip").textContent = row.category;
  $("chip").className = `chip ${row.category}`;
  $("metrics").replaceChildren();
  metric("Globalness", row.globalness.toFixed(2), " nats", row.globalness / most, row.global_rank, "global");
  metric("Verticality", row.verticality.toFixed(2), " nats", 1 + row.verticality / most, row.vertical_rank, "vertical");
  metric("Diagonality", row.diagonality.toFixed(3), "", 1 + 3 * row.diagonality, row.diagonal_rank, "diagonal");
  metric("Largest weight of a query", row.mean_max_weight.toFixed(3), "", row.mean_max_weight, null, "");
  metric("Reach of 90 %", row.reach_seconds.toFixed(2), " s", row.reach_seconds / (n * step), null, "");
}

// ---- the relation of phones

const grid = {};

function relationAt(q, k) {
  const view = grid.values;
  const value = view.getInt16(2 * (q * data.phonemes.length + k), true);
  return value === -32768 ? null : value / 100;
}

function drawRelation(at) {
  const canvas = $("relation");
  if (!canvas) return;
  const count = data.phonemes.length;
  grid.values = new DataView(bytes(data.relation[chosen]).buffer);
  const width = canvas.clientWidth || 260;
  grid.edge = 26;
  grid.size = width - grid.edge;
  const pen = fit(canvas, width, width);
  const cell = grid.size / count;
  let most = 0.01;
  for (let i = 0; i < count * count; i++) {
    const value = relationAt(Math.floor(i / count), i % count);
    if (value !== null) most = Math.max(most, Math.abs(value));
  }
  // Rarely met pairs reach far: colours are full at 3 times uniform.
  most = Math.min(most, 2);
  const every = Math.ceil(13 / cell);
  for (let q = 0; q < count; q++) {
    for (let k = 0; k < count; k++) {
      const value = relationAt(q, k);
      if (value === null) continue;
      const much = Math.min(1, Math.abs(value) / most);
      const tone = value < 0 ? "--global" : "--vertical";
      pen.globalAlpha = much;
      pen.fillStyle = colour(tone);
      pen.fillRect(grid.edge + k * cell, grid.edge + q * cell, cell - 0.5, cell - 0.5);
    }
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = colour("--line");
  pen.strokeRect(grid.edge - 0.5, grid.edge - 0.5, grid.size, grid.size);
  pen.fillStyle = colour("--soft");
  for (let i = 0; i < count; i += every) {
    pen.textAlign = "center";
    pen.fillText(data.phonemes[i], grid.edge + (i + 0.5) * cell, 18);
    pen.fillText(data.phonemes[i], 12, grid.edge + (i + 0.5) * cell + 4);
  }
  if (at) {
    pen.strokeStyle = colour("--ink");
    pen.strokeRect(grid.edge + at.k * cell, grid.edge + at.q * cell, cell, cell);
  }
  relationText(at);
}

function relationText(at) {
  const value = at && relationAt(at.q, at.k);
  if (!at) {
    $("relation-text").textContent =
      "Query down, key across: orange is more than uniform attention, blue less.";
    return;
  }
  const pair = `${data.phonemes[at.q]} looks at ${data.phonemes[at.k]}`;
  $("relation-text").textContent =
    value === null ? `${pair}: not in this clip`
      : `${pair} ${(1 + value).toFixed(2)} times as much as uniform attention (${value < 0 ? "" : "+"}${value.toFixed(2)}).`;
}

if ($("relation")) {
  $("relation").addEventListener("pointermove", (event) => {
    const box = $("relation").getBoundingClientRect();
    const count = data.phonemes.length;
    const cell = grid.size / count;
    const k = Math.floor((event.clientX - box.left - grid.edge) / cell);
    const q = Math.floor((event.clientY - box.top - grid.edge) / cell);
    const inside = q >= 0 && k >= 0 && q < count && k < count;
    drawRelation(inside ? { q, k } : null);
  });
  $("relation").addEventListener("pointerleave", () => drawRelation(null));
}

// ---- all together

function choose(h) {
  chosen = h;
  buttons.forEach((b, i) => b.setAttribute("aria-pressed", i === h));
  for (const node of document.querySelectorAll("svg [data-head], tr[data-head]")) {
    node.classList.toggle("chosen", Number(node.dataset.head) === h);
  }
  describe();
  spanText();
  draw();
}

function draw() {
  drawMap();
  readout();
  drawOver();
  drawRelation(null);
}

for (const node of document.querySelectorAll("svg [data-head], tr[data-head]")) {
  node.addEventListener("click", () => choose(Number(node.dataset.head)));
}
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
$("heads").classList.toggle("few", data.heads < 10);
sort("layer");
choose(0);
