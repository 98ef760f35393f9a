// The mask editor of mrmyo, for anywidget. For research use only, not a medical device.
//
// Python owns the mask. What is painted shows at once; each stroke is one message, and counts when Python has answered
// with the number of its journal entry (`revision`). Messages wait in a queue and go one at a time, so that every edit
// names the revision that it was made on. Nothing is loaded from anywhere and nothing is kept in the browser.

const PATIENCE_MS = 1500;       // without an answer for so long, the view says that it is unsaved
const AGAIN_MS = 4000;          // and sends the same message again, which Python applies once
const THUMB = 58;               // width of an overview picture, in pixels

const TOOLS = [                 // name, key, what it does
  ["brush", "b", "paint"], ["eraser", "e", "take away"], ["polygon", "p", "click corners, Enter closes"],
  ["fill", "f", "fill a region of one label"], ["pick", "k", "take the label under the pointer"],
  ["pan", "v", "move the picture"], ["window", "w", "drag: brightness and contrast"], ["align", "a", "move the mask on the T2 map"],
];

const HELP = `Slices: wheel, PageUp, PageDown, Home, End
Zoom: Ctrl+wheel, + and −, 0 fits; middle button, or pan, moves
Brightness and contrast: right button, or window; arrows with Alt
Tools: ${TOOLS.map(([name, key]) => `${key} ${name}`).join(", ")}
Keyboard drawing: arrows move the cross (Shift: by 8), Space draws at it, d keeps the pen down while it moves, Enter closes a polygon, Escape drops it
Label: n and Shift+n; k takes the one at the cross
Size: [ and ]
This slice: g grow, s shrink, h fill holes, c copy to the next slice, Shift+c to the one before, r relabel
Between slices: m marks this slice, i interpolates from it
z undo, y redo (also with Ctrl)
Align: arrows by 0.5 mm (Shift: 2 mm), u and j up and down along the thigh, comma and full stop turn by 0.5°
l labels, o outlines, t T2 of the mask
Decide: Alt+1 accept this slice, Alt+2 reject it, Alt+3 second reader; the buttons below decide on the study`;

// ---------------------------------------------------------------------------------------------- small helpers

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

function runsOf(where) {        // pairs of start and length
  const pairs = [];
  for (let i = 0; i < where.length; i++) {
    if (!where[i]) continue;
    const start = i;
    while (i < where.length && where[i]) i++;
    pairs.push(start, i - start);
  }
  return new Uint32Array(pairs);
}

function bytesOf(buffer, Kind) { // buffers arrive as views whose offset may not fit the type
  const copy = new Uint8Array(buffer.byteLength);
  copy.set(new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength));
  return new Kind(copy.buffer);
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function times(matrix, point) {  // a (4, 4) matrix on (slice, row, column)
  return [0, 1, 2].map((i) => matrix[i][0] * point[0] + matrix[i][1] * point[1] + matrix[i][2] * point[2] + matrix[i][3]);
}

function inverse(m) {            // of an affine (4, 4) matrix
  const [a, b, c] = m[0], [d, e, f] = m[1], [g, h, i] = m[2];
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e], [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / det));
  const shift = rows.map((row) => -(row[0] * m[0][3] + row[1] * m[1][3] + row[2] * m[2][3]));
  return [...rows.map((row, k) => [...row, shift[k]]), [0, 0, 0, 1]];
}

function rgb(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const word = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36)).join("");

// ------------------------------------------------------------------------------------------ what Python has told

class Store {                    // images and masks by slice, and the queue of edits that wait for their answer
  constructor(model, view, facts) {
    Object.assign(this, { model, view, facts, images: new Map(), masks: new Map(), t2: new Map(), t2Labels: new Map() });
    this.state = { revision: -1, crc: [], changed: [], slice_decisions: {}, decision: { decision: "open", stands: false } };
    this.queue = [];             // edits: the first is on its way
    this.asked = new Set();
    this.greeted = 0;            // when the state was asked for and has not come yet
    this.late = false;
    this.timer = setInterval(() => this.askAgain(), AGAIN_MS);
    this.times = [];             // from pointer-up to acknowledgement, in ms
    this.sizes = [];             // bytes of an edit
    this.listeners = { change: () => {}, slice: () => {}, lost: () => {}, t2: () => {}, refused: () => {}, overlap: () => {}, status: () => {} };
  }

  send(content, buffers = []) {
    try {
      this.model.send({ ...content, view: this.view }, undefined, buffers);
    } catch (error) {
      this.late = true;          // the kernel is gone; the queue stays
      this.listeners.status();
    }
  }

  hello() {
    this.greeted ||= performance.now();
    this.send({ kind: "hello" });
  }

  askAgain() {                   // an answer may have been lost on its way
    if (this.closed) return clearInterval(this.timer);
    if (this.greeted && performance.now() - this.greeted > PATIENCE_MS) {
      this.late = true;
      this.hello();
      this.listeners.status();
    }
    const again = this.before?.filter((k) => this.asked.has(k)) ?? [];
    again.forEach((k) => this.asked.delete(k));
    this.want(again.filter(Number.isInteger));
    this.before = [...this.asked];
  }

  want(slices) {
    const missing = slices.filter((k) => k >= 0 && k < this.facts.shape[0] && !this.masks.has(k) && !this.asked.has(k));
    if (!missing.length) return;
    missing.forEach((k) => this.asked.add(k));
    this.send({ kind: "slices", want: missing });
  }

  wantT2(k, fresh = false) {
    if (!fresh && (this.t2Labels.has(k) || this.asked.has(`t2 ${k}`))) return;
    this.asked.add(`t2 ${k}`);
    this.send({ kind: "t2", slice: k, values: !this.t2.has(k) });
  }

  edit(content, buffer) {
    const item = { content: { ...content, op: word() }, buffers: buffer ? [buffer] : [], from: performance.now(), sent: false };
    const last = this.queue[this.queue.length - 1];
    if (content.tool === "nudge" && last && !last.sent && last.content.tool === "nudge") this.queue.pop();
    this.queue.push(item);
    this.advance();
  }

  advance() {
    const item = this.queue[0];
    if (item && !item.sent && this.state.revision >= 0) {
      item.sent = true;
      item.content.base = this.state.revision;
      this.sizes = this.sizes.slice(-199);
      this.sizes.push(JSON.stringify(item.content).length + item.buffers.reduce((sum, part) => sum + part.byteLength, 0));
      this.send(item.content, item.buffers);
      this.watch(item, PATIENCE_MS);
    }
    this.listeners.status();
  }

  watch(item, patience) {
    setTimeout(() => {
      if (this.closed || this.queue[0] !== item) return;
      this.late = true;
      this.send(item.content, item.buffers);
      this.listeners.status();
      this.watch(item, AGAIN_MS);
    }, patience);
  }

  finish(op) {
    if (!this.queue.length || this.queue[0].content.op !== op) return null;
    this.late = false;
    return this.queue.shift();
  }

  receive(message, buffers) {
    const forAll = message.kind === "change";
    if (!forAll && message.view !== this.view) return;
    if (message.kind === "slice") {
      const k = message.slice;
      this.asked.delete(k);
      this.images.set(k, bytesOf(buffers[0], Uint16Array));
      this.masks.set(k, bytesOf(buffers[1], Uint8Array));
      this.listeners.slice(k);
    } else if (message.kind === "state") {
      this.greeted = 0;
      if (!this.queue.length) this.late = false;
      this.adopt(message);
      this.advance();
    } else if (message.kind === "t2") {
      this.asked.delete(`t2 ${message.slice}`);
      this.t2Labels.set(message.slice, bytesOf(buffers[0], Uint8Array));
      if (buffers[1]) this.t2.set(message.slice, bytesOf(buffers[1], Float32Array));
      this.listeners.t2(message.slice);
    } else if (message.kind === "overlap") {
      this.listeners.overlap(message);
    } else if (forAll) {
      this.changed(message, buffers);
    } else if (message.kind === "nothing") {
      const item = this.finish(message.op);
      // what would be undone was never done: the undo that waits for it would take back something else
      if (item && this.queue[0]?.content.tool === "undo" && item.content.tool !== "undo") this.queue.shift();
      this.check();
      this.listeners.change({ slices: [], tool: "nothing" });
      this.advance();
    } else if (message.kind === "refused") {
      const item = this.finish(message.op);
      const dropped = item ? this.queue.splice(0) : [];  // they were made on what was refused
      const slices = [item, ...dropped].map((one) => one?.content.slice).filter(Number.isInteger);
      this.forget([...new Set(slices)]);
      this.listeners.refused(message.message + (dropped.length ? ` Dropped with it, for they came later: ${dropped.length}.` : ""), slices);
      this.hello();
    }
  }

  changed(message, buffers) {
    const item = this.finish(message.op);
    if (item) this.times = [...this.times.slice(-199), performance.now() - item.from];
    if (buffers.length) {
      const rows = bytesOf(buffers[0], Int32Array);
      for (let at = 0; at < rows.length; at += 4) {
        const mask = this.masks.get(rows[at]);
        if (mask) mask.fill(rows[at + 3], rows[at + 1], rows[at + 1] + rows[at + 2]);
      }
    }
    this.t2Labels.clear();
    this.adopt(message);
    this.listeners.change(message, item);
    this.advance();
  }

  adopt(state) {
    this.state = state;
    this.check();
    this.listeners.change({ slices: [], tool: "state" });
  }

  check() {                      // a slice that is not what Python has is asked for again
    if (this.queue.length) return;
    const wrong = [...this.masks.keys()].filter((k) => crc32(this.masks.get(k)) !== this.state.crc[k]);
    this.forget(wrong);
  }

  forget(slices) {
    if (!slices.length) return;
    slices.forEach((k) => { this.masks.delete(k); this.asked.delete(k); });
    this.listeners.lost(slices);
    this.want(slices);
  }
}

// ------------------------------------------------------------------------------------------------- the picture

class Picture {                  // a canvas that shows one slice with its labels, zoomed and moved
  constructor(rows, columns, spacing, height, box) {
    Object.assign(this, { rows, columns, sx: spacing[2], sy: spacing[1], height, box, zoom: 1, x0: 0, y0: 0, width: 100 });
    this.canvas = element("canvas", { tabindex: "0" });
    this.beneath = new OffscreenCanvas(columns, rows);
    this.over = new OffscreenCanvas(columns, rows);
    this.pixels = new ImageData(columns, rows);
    this.areas = new ImageData(columns, rows);
    this.lines = new Map();
  }

  resize(width) {
    const scale = window.devicePixelRatio || 1, fitted = this.width > 0 && this.isFitted;
    this.width = Math.max(Math.floor(width), 60);
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    if (fitted || this.isFitted === undefined) this.fit();
  }

  fit() {                        // what is labelled fills the canvas
    const [top, bottom, left, right] = this.box;
    const width = this.width - (this.reserved ?? 0);
    this.zoom = Math.min(width / ((right - left) * this.sx), this.height / ((bottom - top) * this.sy));
    this.x0 = width / 2 - (left + right) / 2 * this.sx * this.zoom;
    this.y0 = this.height / 2 - (top + bottom) / 2 * this.sy * this.zoom;
    this.isFitted = true;
  }

  zoomAt(factor, x, y) {
    const next = clamp(this.zoom * factor, 0.1, 200);
    this.x0 = x - (x - this.x0) * next / this.zoom;
    this.y0 = y - (y - this.y0) * next / this.zoom;
    this.zoom = next;
    this.isFitted = false;
  }

  place(event) {                 // row and column of a pointer, in voxels: whole numbers are the voxels' centres
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    return [(y - this.y0) / (this.sy * this.zoom) - 0.5, (x - this.x0) / (this.sx * this.zoom) - 0.5];
  }

  setAreas(mask, colours, hidden) {
    const data = new Uint32Array(this.areas.data.buffer);
    const table = new Uint32Array(256);
    for (const [value, [r, g, b]] of colours) table[value] = hidden.has(value) ? 0 : (255 << 24) | (b << 16) | (g << 8) | r;
    for (let i = 0; i < mask.length; i++) data[i] = table[mask[i]];
    this.over.getContext("2d").putImageData(this.areas, 0, 0);
    this.lines.clear();
    const { rows, columns } = this;
    for (let r = 0; r <= rows; r++) {            // borders between voxels, by the label inside
      for (let c = 0; c <= columns; c++) {
        const here = r < rows && c < columns ? mask[r * columns + c] : 0;
        const left = c > 0 && r < rows ? mask[r * columns + c - 1] : 0;
        const above = r > 0 && c < columns ? mask[(r - 1) * columns + c] : 0;
        if (here !== left && r < rows) for (const value of [here, left]) if (value) this.path(value).push(c, r, c, r + 1);
        if (here !== above && c < columns) for (const value of [here, above]) if (value) this.path(value).push(c, r, c + 1, r);
      }
    }
  }

  path(value) {
    if (!this.lines.has(value)) this.lines.set(value, []);
    return this.lines.get(value);
  }

  draw({ opacity, outline, colours, hidden, preview, smooth }) {
    const scale = window.devicePixelRatio || 1, context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, this.height);
    const box = [this.x0, this.y0, this.columns * this.sx * this.zoom, this.rows * this.sy * this.zoom];
    context.imageSmoothingEnabled = smooth;
    context.drawImage(this.beneath, ...box);
    context.imageSmoothingEnabled = false;
    if (opacity > 0) {
      context.globalAlpha = opacity;
      context.drawImage(this.over, ...box);
      context.globalAlpha = 1;
    }
    if (outline) {
      context.lineWidth = 1.4;
      for (const [value, edges] of this.lines) {
        if (hidden.has(value) || !colours.has(value)) continue;
        context.strokeStyle = `rgb(${colours.get(value)})`;
        context.beginPath();
        for (let i = 0; i < edges.length; i += 4) {
          context.moveTo(this.x(edges[i]), this.y(edges[i + 1]));
          context.lineTo(this.x(edges[i + 2]), this.y(edges[i + 3]));
        }
        context.stroke();
      }
    }
    if (preview) preview(context, this);
    Object.assign(this.canvas.dataset, { x0: this.x0, y0: this.y0, dx: this.sx * this.zoom, dy: this.sy * this.zoom });
  }

  x(column) { return this.x0 + column * this.sx * this.zoom; }   // of a border between voxels
  y(row) { return this.y0 + row * this.sy * this.zoom; }

  mark(context, row, column, colour = "#f0e442") {
    const x = this.x(column + 0.5), y = this.y(row + 0.5);
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x - 9, y); context.lineTo(x - 3, y); context.moveTo(x + 3, y); context.lineTo(x + 9, y);
    context.moveTo(x, y - 9); context.lineTo(x, y - 3); context.moveTo(x, y + 3); context.lineTo(x, y + 9);
    context.stroke();
  }
}

// --------------------------------------------------------------------------------- voxels that a gesture touches

function capsule(where, picture, from, to, radius) {  // voxels whose centre lies within `radius` mm of a line
  const { rows, columns, sx, sy } = picture;
  const [r0, c0, r1, c1] = [from[0] * sy, from[1] * sx, to[0] * sy, to[1] * sx];
  const along = (r1 - r0) ** 2 + (c1 - c0) ** 2;
  const top = Math.max(Math.ceil((Math.min(r0, r1) - radius) / sy), 0);
  const bottom = Math.min(Math.floor((Math.max(r0, r1) + radius) / sy), rows - 1);
  const left = Math.max(Math.ceil((Math.min(c0, c1) - radius) / sx), 0);
  const right = Math.min(Math.floor((Math.max(c0, c1) + radius) / sx), columns - 1);
  for (let r = top; r <= bottom; r++) {
    for (let c = left; c <= right; c++) {
      const y = r * sy, x = c * sx;
      const share = along ? clamp(((y - r0) * (r1 - r0) + (x - c0) * (c1 - c0)) / along, 0, 1) : 0;
      const dy = y - r0 - share * (r1 - r0), dx = x - c0 - share * (c1 - c0);
      if (dy * dy + dx * dx <= radius * radius) where[r * columns + c] = 1;
    }
  }
}

function inside(picture, corners) {                   // voxels whose centre lies within a polygon (even-odd)
  const { rows, columns } = picture, where = new Uint8Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const crossings = [];
    corners.forEach(([r0, c0], i) => {
      const [r1, c1] = corners[(i + 1) % corners.length];
      if ((r0 <= r) !== (r1 <= r)) crossings.push(c0 + (r - r0) / (r1 - r0) * (c1 - c0));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const first = Math.max(Math.ceil(crossings[i]), 0), last = Math.min(Math.floor(crossings[i + 1]), columns - 1);
      for (let c = first; c <= last; c++) where[r * columns + c] = 1;
    }
  }
  return where;
}

function flood(picture, seed, joins) {                // voxels that hang together with the seed by their sides
  const { rows, columns } = picture, where = new Uint8Array(rows * columns), ahead = [seed];
  where[seed] = 1;
  while (ahead.length) {
    const at = ahead.pop(), c = at % columns;
    for (const next of [c > 0 ? at - 1 : -1, c < columns - 1 ? at + 1 : -1, at - columns, at + columns]) {
      if (next < 0 || next >= where.length || where[next] || !joins(next)) continue;
      where[next] = 1;
      ahead.push(next);
    }
  }
  return where;
}

// ---------------------------------------------------------------------------------------------------- one view

class View {
  constructor(model, el) {
    this.born = performance.now();
    this.facts = model.get("facts");
    this.model = model;
    const { facts } = this;
    this.store = new Store(model, word(), facts);
    this.colours = new Map(Object.entries(facts.colours).map(([value, text]) => [Number(value), rgb(text)]));
    this.targets = new Map(facts.targets.map((one) => [one.key, one]));
    Object.assign(this, {
      slice: facts.first, tool: "brush", label: "whole muscle", radius: 4, opacity: 0.35, outline: true, smooth: true,
      hidden: new Set(), cursor: [Math.floor(facts.shape[1] / 2), Math.floor(facts.shape[2] / 2)], pen: false, corners: [],
      window: { low: facts.window[0], high: facts.window[1] }, marked: null, stroke: null, waiting: new Map(), overlap: null,
      t2Slice: -1, t2Labels: true, pose: [0, 0, 0, 0], drawn: 0,
    });
    this.image = new Picture(facts.shape[1], facts.shape[2], facts.spacing, facts.height, facts.box);
    if (facts.t2) {
      this.map = new Picture(facts.t2.shape[1], facts.t2.shape[2], facts.t2.spacing, facts.height, facts.t2.box);
      this.map.reserved = 56;      // for the colour bar
      this.mapColours = Uint8Array.from(atob(facts.t2.colours), (c) => c.charCodeAt(0));
      this.shown = [...facts.t2.shown_ms];
    }
    this.build(el);
    Object.assign(this.store.listeners, {
      slice: (k) => this.arrived(k), change: (told, item) => this.changed(told, item), t2: (k) => this.t2Arrived(k),
      refused: (text, slices) => this.refused(text, slices), lost: (slices) => { if (slices.includes(this.slice)) this.refresh(); }, overlap: (told) => { this.overlap = told; this.tell(); },
      status: () => this.status(),
    });
    this.receive = (message, buffers) => this.store.receive(message, buffers);
    model.on("msg:custom", this.receive);
    this.store.hello();
    this.store.want([this.slice]);
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.body);
    if (facts.recovered) this.say(`A stroke that a crash cut short could not be recovered; it was set aside (${facts.recovered}).`);
  }

  close() {
    this.store.closed = true;
    clearInterval(this.store.timer);
    this.model.off("msg:custom", this.receive);
    this.watcher.disconnect();
  }

  // ------------------------------------------------------------------------------------------- what is on the page

  build(el) {
    const { facts } = this;
    this.parts = {};
    const keep = (name, made) => (this.parts[name] = made);
    const press = (text, title, action, name) => {
      const made = element("button", { type: "button", title, onclick: () => { action(); this.root.focusStage(); } }, text);
      return name ? keep(name, made) : made;
    };
    const tools = TOOLS.filter(([name]) => name !== "align" || facts.t2).map(([name, key, does]) =>
      press(name, `${does} (${key})`, () => this.choose(name), `tool ${name}`));
    const number = (name, value, step, title, action) => keep(name, element("input", {
      type: "number", value: String(value), step: String(step), title, style: "width: 58px", onchange: (e) => action(Number(e.target.value)),
    }));
    const check = (name, text, title, action) => {
      const box = keep(name, element("input", { type: "checkbox", onchange: (e) => action?.(e.target.checked) }));
      return element("label", { title }, box, text);
    };
    const [low, high] = facts.range;
    const bar1 = element("div", { class: "bar", role: "toolbar", "aria-label": "tools" }, ...tools,
      element("label", { title: "[ and ]" }, "radius ", number("radius", this.radius, 0.5, "of brush and eraser, in mm", (v) => this.setRadius(v)), " mm"),
      check("erase", "takes away", "polygon and fill take the label away (x)"),
      check("only empty", "only empty voxels", "other labels stay as they are"),
      check("in range", "only within", "voxels outside this range of intensity stay as they are"),
      number("low", Math.floor(low * 100) / 100, (high - low) / 100, "lowest intensity", () => {}), "–",
      number("high", Math.ceil(high * 100) / 100, (high - low) / 100, "highest intensity", () => {}));
    const into = keep("into", element("select", { title: "the label that relabel changes into" },
      ...facts.targets.filter((one) => one.values.length === 1).map((one) => element("option", { value: one.key }, `${one.name} ${one.side}`))));
    const scope = keep("scope", element("select", { title: "what grow, shrink, fill holes, relabel and swap work on" },
      ...["this slice", "all slices", "part at cross"].map((text) => element("option", { value: text }, text))));
    const bar2 = element("div", { class: "bar", role: "toolbar", "aria-label": "edits" },
      press("undo", "z", () => this.turn("undo"), "undo"), press("redo", "y", () => this.turn("redo"), "redo"), scope,
      press("grow", "g: by one voxel, into empty voxels", () => this.work("grow")),
      press("shrink", "s: by one voxel", () => this.work("shrink")),
      press("fill holes", "h", () => this.work("fill holes")),
      press("copy ↑", "c: the label of this slice into the next", () => this.copy(1)),
      press("copy ↓", "Shift+c: into the one before", () => this.copy(-1)),
      press("mark", "m: interpolation begins here", () => this.setMark(), "mark"),
      press("interpolate", "i: the label between the marked slice and this one", () => this.interpolate()),
      press("relabel into", "r", () => this.work("relabel")), into,
      press("swap left and right", "exchange the names of the sides", () => this.work("swap sides")),
      element("span", { class: "gap" }), press("?", "keys", () => this.help.toggleAttribute("hidden"), "help"));
    this.help = element("div", { class: "help", hidden: true }, HELP);
    this.stage = element("div", { class: "stage" }, this.image.canvas, element("span", { class: "side", style: "left: 6px" }, facts.plane === "sagittal" ? "A" : "R"),
      element("span", { class: "side", style: "right: 6px" }, facts.plane === "sagittal" ? "P" : "L"), this.told = element("div", { class: "told" }));
    this.image.canvas.setAttribute("aria-label", "structural image with the mask; arrows move the cross, Space draws");
    this.body = element("div", { class: "body" }, this.palette(), this.stage);
    if (this.map) {
      this.map.canvas.setAttribute("aria-label", "T2 map with the mask");
      this.mapStage = element("div", { class: "stage" }, this.map.canvas, this.mapTold = element("div", { class: "told" }));
      this.body.append(this.mapStage);
      this.follow(this.map, true);
    }
    const display = element("div", { class: "bar" },
      element("label", {}, "slice ", keep("slider", element("input", { type: "range", min: "0", max: String(facts.shape[0] - 1), value: String(this.slice),
        style: "width: 150px", oninput: (e) => this.show(Number(e.target.value)) }))), keep("number", element("span")),
      element("label", {}, "labels ", keep("opacity", element("input", { type: "range", min: "0", max: "1", step: "0.05", value: String(this.opacity),
        style: "width: 80px", oninput: (e) => { this.opacity = Number(e.target.value); this.draw(); } }))),
      check("outline", "outlines", "o", (on) => { this.outline = on; this.draw(); }),
      check("smooth", "smooth", "interpolate between voxels", (on) => { this.smooth = on; this.draw(); }),
      ...(this.map ? [check("map", "T2 map", "beside the image", (on) => { this.mapStage.hidden = !on; this.resize(); }), "from ", number("t2 low", this.shown[0], 5, "ms", (v) => this.setShown(0, v)), " to ",
        number("t2 high", this.shown[1], 5, "ms", (v) => this.setShown(1, v)), " ms",
        press("T2 of the mask", "t: where the mask lies on the T2 map, and its mean T2", () => this.measure())] : []));
    this.strip = element("div", { class: "strip", role: "toolbar", "aria-label": "slices" });
    this.thumbs = Array.from({ length: facts.shape[0] }, (_, k) => {
      const canvas = element("canvas", { width: THUMB, height: Math.max(Math.round(THUMB * facts.shape[1] * facts.spacing[1] / (facts.shape[2] * facts.spacing[2])), 8) });
      const marks = element("span", { class: "marks" });
      const made = element("button", { type: "button", onclick: () => this.show(k) }, canvas, element("span", { class: "tag" }, String(k)), marks);
      this.strip.append(made);
      return { made, canvas, marks };
    });
    const decide = (text, decision, title, slice) => press(text, title, () => this.decide(decision, slice), `${decision} ${slice ? "slice" : "study"}`);
    const bar3 = element("div", { class: "bar" },
      element("label", {}, "reviewer ", keep("reviewer", element("input", { type: "text", size: "10", maxlength: "40", "aria-label": "reviewer" }))),
      element("label", {}, "comment ", keep("comment", element("input", { type: "text", size: "26", maxlength: "2000", "aria-label": "comment" }))),
      "this slice:", decide("✓", "accepted", "accept this slice (Alt+1)", true), decide("✗", "rejected", "reject this slice (Alt+2)", true),
      decide("?", "second reader", "this slice needs a second reader (Alt+3)", true), element("span", { class: "gap" }), "study:",
      decide("accept", "accepted", "the mask is good", false), decide("reject", "rejected", "the mask cannot be used", false),
      decide("needs second reader", "second reader", "", false), keep("decision", element("span")));
    this.message = element("div", { class: "message", role: "status", "aria-live": "polite" });
    const head = element("div", { class: "bar" }, element("strong", {}, "Mask review"), element("em", {}, "research use only"),
      element("span", { class: "gap" }), keep("status", element("span", { class: "status", role: "status" }, "connecting")));
    this.root = element("div", { class: "mrmyo-review", "data-lm-suppress-shortcuts": "true" }, head, bar1, bar2, this.help, display, this.body,
      this.message, this.strip, bar3);
    this.root.focusStage = () => this.image.canvas.focus({ preventScroll: true });
    this.parts.outline.checked = this.parts.smooth.checked = true;
    if (this.map) this.parts.map.checked = true;
    this.follow(this.image, false);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.view = this;       // for the console, and for tests
    el.append(this.root);
    this.choose(this.tool);
    this.setLabel(this.label);
  }

  palette() {
    const { facts } = this, rows = new Map();
    for (const one of facts.targets) {
      if (!rows.has(one.name)) rows.set(one.name, {});
      rows.get(one.name)[one.side || "both"] = one;
    }
    this.swatches = new Map();
    const table = element("table", { "aria-label": "labels" }, element("tr", {}, element("th", {}, "label"), element("th", {}, "right"), element("th", {}, "left"), element("th", { title: "of a single muscle: whether it is shown" }, "both")));
    for (const [name, sides] of rows) {
      const value = Object.values(sides)[0].values;
      const cells = ["right", "left", "both"].map((side) => {
        const one = sides[side];
        if (!one) return element("td");      // single muscles have no "both": there is a box to hide them
        const made = element("button", { type: "button", title: `${name} ${side}`, "aria-label": `${name} ${side}`, "aria-pressed": "false",
          onclick: () => { this.setLabel(one.key); this.root.focusStage(); } }, { left: "L", right: "R", both: "RL" }[side]);
        this.swatches.set(one.key, made);
        return element("td", {}, made);
      });
      if (value.length === 1) cells.pop();
      const swatch = value.length === 1 ? element("span", { class: "swatch", style: `background: ${facts.colours[value[0]]}` }) : "";
      const eye = value.length === 1 ? element("input", { type: "checkbox", checked: true, "aria-label": `show ${name}`, title: `show ${name}`, onchange: (event) => {
        Object.values(sides).forEach((one) => this.hidden[event.target.checked ? "delete" : "add"](one.values[0]));
        this.refresh();
      } }) : "";
      table.append(element("tr", {}, element("td", { class: "name", title: name }, swatch, ` ${name}`), ...cells, ...(eye ? [element("td", {}, eye)] : [])));
    }
    return this.paletteBox = element("div", { class: "palette", style: `height: ${facts.height}px` }, table);
  }

  resize() {
    const both = this.map && !this.mapStage.hidden, room = this.body.clientWidth - this.paletteBox.offsetWidth - (both ? 12 : 6);
    const parts = both ? [[this.stage, this.image, room * 0.53], [this.mapStage, this.map, room * 0.47]] : [[this.stage, this.image, room]];
    for (const [stage, picture, width] of parts) {
      picture.resize(width);
      stage.style.width = `${picture.width}px`;
    }
    this.draw();
  }

  // ---------------------------------------------------------------------------------------------------- drawing

  show(k) {
    this.endStroke();            // what was drawn belongs to the slice it was drawn on
    const from = performance.now();
    this.slice = clamp(k, 0, this.facts.shape[0] - 1);
    this.corners = [];
    this.store.want([this.slice, this.slice + 1, this.slice - 1]);
    this.refresh();
    this.drawn = performance.now() - from;
    this.root.dataset.drawMs = this.drawn.toFixed(2);
    this.t2Follow();
  }

  refresh() {                    // the slice from its voxels
    const image = this.store.images.get(this.slice), mask = this.store.masks.get(this.slice);
    const { thumbs, slice, parts, facts } = this;
    parts.slider.value = String(slice);
    parts.number.textContent = `${slice} of 0–${facts.shape[0] - 1}`;
    thumbs.forEach((one, k) => (k === slice ? one.made.setAttribute("aria-current", "true") : one.made.removeAttribute("aria-current")));
    const here = thumbs[slice].made;
    this.strip.scrollLeft = clamp(this.strip.scrollLeft, here.offsetLeft + here.offsetWidth - this.strip.clientWidth - this.strip.offsetLeft, here.offsetLeft - this.strip.offsetLeft);
    this.root.dataset.slice = String(slice);
    this.ready = Boolean(image && mask);
    if (this.ready) {
      this.greys(this.image.pixels, image);
      this.image.beneath.getContext("2d").putImageData(this.image.pixels, 0, 0);
      this.image.setAreas(mask, this.colours, this.hidden);
    }
    this.draw();
    if (this.ready) this.root.dataset.firstMs ??= (performance.now() - this.born).toFixed(0);
  }

  greys(pixels, image) {
    const data = new Uint32Array(pixels.data.buffer), { low, high } = this.window, width = Math.max(high - low, 1);
    for (let i = 0; i < image.length; i++) {
      const grey = clamp((image[i] - low) * 255 / width, 0, 255) & 255;
      data[i] = (255 << 24) | (grey << 16) | (grey << 8) | grey;
    }
  }

  draw() {
    const { image, opacity, outline, colours, hidden, smooth } = this;
    const preview = (context) => {
      const shown = [this.stroke?.where, ...(this.waiting.get(this.slice) ?? [])].filter(Boolean);
      context.fillStyle = "rgba(240, 228, 66, 0.55)";
      for (const where of shown) {
        for (let i = 0; i < where.length; i++) {
          if (where[i]) context.fillRect(image.x(i % image.columns), image.y(Math.floor(i / image.columns)), image.sx * image.zoom + 0.5, image.sy * image.zoom + 0.5);
        }
      }
      if (this.corners.length) {
        context.strokeStyle = "#f0e442";
        context.lineWidth = 1.5;
        context.beginPath();
        [...this.corners, ...(this.corners.length > 2 ? [this.corners[0]] : [])].forEach(([r, c]) => context.lineTo(image.x(c + 0.5), image.y(r + 0.5)));
        context.stroke();
        this.corners.forEach(([r, c]) => context.strokeRect(image.x(c + 0.5) - 2, image.y(r + 0.5) - 2, 4, 4));
      }
      image.mark(context, ...this.cursor);
      if (["brush", "eraser"].includes(this.tool)) {
        context.beginPath();
        context.ellipse(image.x(this.cursor[1] + 0.5), image.y(this.cursor[0] + 0.5), this.radius * image.zoom, this.radius * image.zoom, 0, 0, 7);
        context.stroke();
      }
      if (!this.ready) {
        context.fillStyle = "#fff";
        context.fillText("waiting for the kernel …", 12, 20);
      }
    };
    image.draw({ opacity, outline, colours, hidden, preview, smooth });
    this.drawMap();
    this.tell();
  }

  thumb(k) {
    const image = this.store.images.get(k), mask = this.store.masks.get(k);
    if (!image || !mask) return;
    const { canvas } = this.thumbs[k], context = canvas.getContext("2d"), made = context.createImageData(canvas.width, canvas.height);
    const { rows, columns } = this.image, { low, high } = this.window;
    for (let y = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++) {
        const at = Math.floor(y * rows / canvas.height) * columns + Math.floor(x * columns / canvas.width);
        const grey = clamp((image[at] - low) * 255 / Math.max(high - low, 1), 0, 255), colour = mask[at] ? this.colours.get(mask[at]) : null;
        [0, 1, 2].forEach((i) => (made.data[4 * (y * canvas.width + x) + i] = colour ? 0.5 * grey + 0.5 * colour[i] : grey));
        made.data[4 * (y * canvas.width + x) + 3] = 255;
      }
    }
    context.putImageData(made, 0, 0);
  }

  arrived(k) {
    this.waiting.delete(k);
    if (k === this.slice) {
      this.refresh();
      this.t2Follow();
    }
    this.thumb(k);
    if (this.store.masks.size === this.facts.shape[0]) this.root.dataset.loaded = "true";
    // the rest comes while nobody waits, nearest first
    const missing = this.thumbs.map((_, i) => i).filter((i) => !this.store.masks.has(i)).sort((a, b) => Math.abs(a - this.slice) - Math.abs(b - this.slice));
    if (missing.length) setTimeout(() => this.store.want(missing.slice(0, 2)), 0);
  }

  // ----------------------------------------------------------------------------------------------------- T2 map

  t2Follow() {
    if (!this.map || !this.store.state.link) return;
    const middle = times(this.store.state.link, [this.slice, this.facts.shape[1] / 2, this.facts.shape[2] / 2]);
    const k = Math.round(middle[0]);
    this.t2Slice = k >= 0 && k < this.facts.t2.shape[0] ? k : -1;
    if (this.t2Slice >= 0) this.store.wantT2(this.t2Slice);
    this.t2Arrived(this.t2Slice);
  }

  t2Arrived(k) {
    if (!this.map || k !== this.t2Slice) return;
    const values = this.store.t2.get(k), labels = this.store.t2Labels.get(k), data = new Uint32Array(this.map.pixels.data.buffer);
    const [low, high] = this.shown;
    data.fill(255 << 24);
    if (values) {
      for (let i = 0; i < values.length; i++) {
        if (!Number.isFinite(values[i])) continue;
        const at = 3 * Math.round(clamp((values[i] - low) / Math.max(high - low, 1e-6), 0, 1) * 255), c = this.mapColours;
        data[i] = (255 << 24) | (c[at + 2] << 16) | (c[at + 1] << 8) | c[at];
      }
    }
    this.map.beneath.getContext("2d").putImageData(this.map.pixels, 0, 0);
    if (labels) this.map.setAreas(labels, this.colours, this.hidden);
    if (k < 0) this.map.lines.clear();
    this.drawMap();
    this.tell();
  }

  drawMap() {
    if (!this.map) return;
    const white = new Map([...this.colours].map(([value]) => [value, [255, 255, 255]])), { map } = this;
    map.draw({ opacity: 0, outline: this.t2Labels, colours: white, hidden: this.hidden, smooth: false, preview: (context) => {
      const [k, r, c] = this.onMap();
      if (k !== undefined) map.mark(context, r, c, "#d55e00");
      const high = map.height * 0.6, x = map.width - 44, y = map.height * 0.2;  // the colour bar
      context.fillStyle = "rgba(0, 0, 0, 0.75)";
      context.fillRect(x - 18, y - 24, 62, high + 40);
      for (let i = 0; i < high; i++) {
        const at = 3 * Math.round(255 * (1 - i / high));
        context.fillStyle = `rgb(${this.mapColours.slice(at, at + 3)})`;
        context.fillRect(x, y + i, 10, 1.5);
      }
      context.fillStyle = "#fff";
      context.font = "11px system-ui, sans-serif";
      [0, 0.5, 1].forEach((share) => context.fillText((this.shown[0] + share * (this.shown[1] - this.shown[0])).toFixed(0), x + 13, y + high * (1 - share) + 4));
      context.fillText("T2 (ms)", x - 12, y - 8);
    } });
  }

  onMap() {                      // the cross on the T2 map
    if (!this.map || !this.store.state.link || this.t2Slice < 0) return [];
    return times(this.store.state.link, [this.slice, ...this.cursor]);
  }

  setShown(which, value) {
    if (Number.isFinite(value)) this.shown[which] = value;
    this.t2Arrived(this.t2Slice);
  }

  measure() {
    if (this.map) this.store.send({ kind: "overlap" });
  }

  // ------------------------------------------------------------------------------------------------ what is told

  tell() {
    const { store, slice, cursor, facts } = this, [r, c] = cursor.map(Math.round);
    const image = store.images.get(slice), mask = store.masks.get(slice), at = r * facts.shape[2] + c;
    const within = r >= 0 && c >= 0 && r < facts.shape[1] && c < facts.shape[2];
    const [low, high] = facts.range;
    const value = mask && within ? mask[at] : 0, one = this.targets.get(String(value));
    this.told.textContent = image && within
      ? `row ${r}, column ${c}: ${(low + image[at] / 65535 * (high - low)).toPrecision(4)}${one ? `, ${one.name} ${one.side}` : ""}` : "";
    if (!this.map) return;
    const [, mr, mc] = this.onMap(), values = store.t2.get(this.t2Slice);
    const t2 = values && mr > -0.5 && mc > -0.5 && mr < facts.t2.shape[1] - 0.5 && mc < facts.t2.shape[2] - 0.5 ? values[Math.round(mr) * facts.t2.shape[2] + Math.round(mc)] : NaN;
    const pose = this.pose.some((v) => v) ? `moved ${this.pose.slice(0, 3).map((v) => v.toFixed(1)).join(", ")} mm (right, forwards, up), ${this.pose[3].toFixed(1)}°\n` : "";
    const lies = this.overlap ? `${this.overlap.revision >= store.state.edited ? "" : "before the last edit: "}mean T2 ${this.overlap.t2_ms?.toFixed(2) ?? "–"} ms, `
      + `border ${this.overlap.border_fit?.toFixed(2) ?? "–"}, covered ${(100 * (this.overlap.covered ?? 0)).toFixed(0)} %, Dice with the start ${this.overlap.dice_start?.toFixed(3) ?? "–"}\n` : "";
    this.mapTold.textContent = `${pose}${lies}` + (this.t2Slice < 0 ? "no T2 map at this slice" : `T2 slice ${this.t2Slice}${Number.isFinite(t2) ? `, ${t2.toFixed(1)} ms` : ""}`);
    this.root.dataset.overlap = this.overlap ? JSON.stringify(this.overlap) : "";
  }

  say(text, calm = false) {      // what is calm does not wipe away what has to be read
    if (calm && performance.now() - (this.alarmed ?? -1e9) < 6000) return;
    this.alarmed = calm ? -1e9 : performance.now();
    this.message.textContent = text;
    this.message.classList.toggle("calm", calm);
  }

  status() {
    const { store, parts } = this, n = store.queue.length, unsaved = n > 0 && store.late;
    parts.status.textContent = unsaved || store.late ? `unsaved: ${n} edit${n === 1 ? "" : "s"}; the kernel does not answer` : n ? "saving …" : store.state.revision < 0 ? "connecting" : `saved, entry ${store.state.revision}`;
    parts.status.classList.toggle("unsaved", store.late);
    const blocked = n > 0 || store.late || store.state.revision < 0;
    for (const [name, part] of Object.entries(parts)) if (/^(accepted|rejected|second reader) /.test(name)) part.disabled = blocked;
    Object.assign(this.root.dataset, { revision: store.state.revision, pending: n, status: store.late ? "unsaved" : n ? "saving" : "saved",
      ackMs: JSON.stringify(store.times.map((t) => Number(t.toFixed(1)))), sizes: JSON.stringify(store.sizes) });
  }

  changed(told, item) {
    const { state } = this.store;
    if (item?.content.slice !== undefined) this.waiting.delete(item.content.slice);
    if (item?.content.kind === "decide") this.parts.comment.value = "";
    if (told.tool === "nothing") { this.waiting.clear(); this.say("That changes nothing.", true); }
    this.pose = this.store.queue.some((one) => one.content.tool === "nudge") ? this.pose : [...(state.pose ?? this.pose)];
    this.parts.undo.disabled = !state.can_undo && !this.store.queue.length;
    this.parts.redo.disabled = !state.can_redo;
    if (document.activeElement !== this.parts.reviewer && state.reviewer && !this.parts.reviewer.value) this.parts.reviewer.value = state.reviewer;
    const { decision } = state;
    this.parts.decision.textContent = decision.decision === "open" ? "" : `${decision.decision} by ${decision.reviewer}${decision.stands ? "" : " (changed since)"}`;
    this.root.dataset.decision = decision.stands ? decision.decision : "open";
    this.thumbs.forEach(({ marks }, k) => {
      const one = state.slice_decisions[k], sign = one && one.decision !== "open" ? { accepted: "✓", rejected: "✗", "second reader": "?" }[one.decision] + (one.stands ? "" : "…") : "";
      marks.textContent = `${state.changed.includes(k) ? "●" : ""}${sign}`;
      marks.title = `${state.changed.includes(k) ? "changed" : ""} ${one?.decision ?? ""}`;
    });
    for (const k of told.slices) this.thumb(k);
    if (told.slices.includes(this.slice)) this.refresh();
    if (told.tool !== "state" && told.tool !== "nothing") this.say("", true);
    this.status();
    clearTimeout(this.later);    // the T2 map follows when the hand rests
    this.later = setTimeout(() => {
      if (!this.map) return;
      this.t2Follow();
      if (told.tool === "nudge") this.measure();
    }, 120);
    this.draw();
  }

  refused(text, slices) {
    slices.forEach((k) => this.waiting.delete(k));
    this.say(text);
    this.refresh();
  }

  // --------------------------------------------------------------------------------------------------- choosing

  choose(tool) {
    this.endStroke();
    this.tool = tool;
    this.corners = [];
    for (const [name] of TOOLS) this.parts[`tool ${name}`]?.setAttribute("aria-pressed", String(name === tool));
    this.draw();
  }

  setLabel(key) {
    this.label = key;
    for (const [other, made] of this.swatches) made.setAttribute("aria-pressed", String(other === key));
    this.root.dataset.label = key;
  }

  stepLabel(step) {
    const keys = [...this.targets.keys()], at = keys.indexOf(this.label);
    this.setLabel(keys[(at + step + keys.length) % keys.length]);
    const one = this.targets.get(this.label);
    this.swatches.get(this.label)?.scrollIntoView({ block: "nearest" });
    this.say(`${one.name} ${one.side}`, true);
  }

  setRadius(value) {
    if (Number.isFinite(value)) this.radius = clamp(value, 0.1, 100);
    this.parts.radius.value = String(this.radius);
    this.draw();
  }

  setMark() {
    this.marked = this.slice;
    this.parts.mark.textContent = `mark (${this.slice})`;
  }

  within([r, c]) {               // a place as row and column of a voxel; null beside the image
    const [row, column] = [Math.round(r), Math.round(c)], { shape } = this.facts;
    return row >= 0 && column >= 0 && row < shape[1] && column < shape[2] ? [row, column] : null;
  }

  pick(place) {
    const at = this.within(place), value = at && this.store.masks.get(this.slice)?.[at[0] * this.facts.shape[2] + at[1]];
    if (value) this.setLabel(String(value));
    else this.say("There is no label here.", true);
  }

  // ---------------------------------------------------------------------------------------------------- editing

  send(content, buffer) {
    const reviewer = this.parts.reviewer.value.trim();
    if (!reviewer) {
      this.say("Enter who you are (reviewer) first: the journal keeps who changed what.");
      this.parts.reviewer.focus();
      return false;
    }
    this.store.edit({ kind: "edit", reviewer, ...content }, buffer);
    return true;
  }

  options() {
    return { label: this.label, only_empty: this.parts["only empty"].checked };
  }

  allowed(where) {               // only within a range of intensity, where that is asked for
    if (!this.parts["in range"].checked) return where;
    const [low, high] = this.facts.range, grey = (part) => (Number(this.parts[part].value) - low) / (high - low) * 65535;
    const least = grey("low") - 0.5, most = grey("high") + 0.5, image = this.store.images.get(this.slice);
    for (let i = 0; i < where.length; i++) if (where[i] && (image[i] < least || image[i] > most)) where[i] = 0;
    return where;
  }

  paint(tool, where, erase) {
    if (!this.ready) return this.say("This slice has not come from the kernel yet; nothing was drawn.");
    const runs = runsOf(this.allowed(where));
    if (!runs.length) return this.say("Nothing lies there to change.", true);
    const content = { tool, slice: this.slice, erase, ...this.options() };
    if (!this.send(content, new Uint8Array(runs.buffer))) return;
    const mask = this.store.masks.get(this.slice), one = this.targets.get(this.label);
    if (erase || one.values.length === 1) {          // Python will say the same
      const among = new Set(one.values);
      for (let i = 0; i < where.length; i++) {
        if (!where[i]) continue;
        if (erase) { if (among.has(mask[i])) mask[i] = 0; } else if (!content.only_empty || mask[i] === 0) mask[i] = one.values[0];
      }
    } else {                                         // Python finds the names; until then it shows as on its way
      this.waiting.set(this.slice, [...(this.waiting.get(this.slice) ?? []), where]);
    }
    this.refresh();
  }

  brush(from, to) {
    const { image } = this;
    this.stroke ??= { where: new Uint8Array(image.rows * image.columns), slice: this.slice, tool: this.tool };
    capsule(this.stroke.where, image, from, to, this.radius);
    this.stroke.last = to;
  }

  endStroke() {
    const { stroke } = this;
    this.stroke = null;
    this.pen = false;
    if (!stroke) return;
    this.paint(stroke.tool, stroke.where, stroke.tool === "eraser");
    this.draw();
  }

  corner(place) {
    this.corners.push(place);
    this.draw();
  }

  closePolygon() {
    const { corners } = this;
    this.corners = [];
    if (corners.length > 2) this.paint("polygon", inside(this.image, corners), this.parts.erase.checked);
    this.draw();
  }

  fillAt(place) {
    const { image } = this, mask = this.store.masks.get(this.slice), at = this.within(place);
    if (!mask || !at) return;
    const seed = at[0] * image.columns + at[1], value = mask[seed];
    const range = this.allowed(new Uint8Array(mask.length).fill(1));
    this.paint("fill", flood(image, seed, (at) => mask[at] === value && range[at]), this.parts.erase.checked);
  }

  useAt(place) {                 // the tool at one place: a click, or Space
    if (this.tool === "polygon") this.corner(place);
    else if (this.tool === "fill") this.fillAt(place);
    else if (this.tool === "pick") this.pick(place);
    else if (["brush", "eraser"].includes(this.tool)) { this.brush(place, place); this.endStroke(); }
  }

  work(tool) {
    const scope = this.parts.scope.value, content = { tool, slice: this.slice, everywhere: scope === "all slices", ...this.options() };
    if (tool === "relabel") {
      content.into = this.parts.into.value;
      if (scope === "part at cross") {
        content.around = this.within(this.cursor);
        if (!content.around) return this.say("The cross lies beside the image.", true);
      }
    }
    this.send(content);
  }

  copy(step) {
    const next = this.slice + step;
    if (next < 0 || next >= this.facts.shape[0]) return this.say("There is no slice beyond this one.", true);
    if (this.send({ tool: "copy", source: this.slice, slice: next, ...this.options() })) this.show(next);
  }

  interpolate() {
    if (this.marked === null) return this.say("Mark the slice to interpolate from first (m), then go to the other one.");
    this.send({ tool: "interpolate", first: this.marked, last: this.slice, ...this.options() });
  }

  turn(tool) {
    this.send({ tool });
  }

  nudge(step) {
    if (!this.map) return;
    this.pose = this.pose.map((value, i) => Math.round((value + step[i]) * 100) / 100);
    this.send({ tool: "nudge", pose: this.pose });
    this.tell();
  }

  inPlane(down, across) {        // a pose from steps on the screen, in mm: rows lead backwards or down, columns to the left or backwards
    return { axial: [-across, -down, 0, 0], coronal: [-across, 0, -down, 0], sagittal: [0, -across, -down, 0] }[this.facts.t2.plane];
  }

  decide(decision, slice) {
    if (this.store.queue.length) return this.say("Wait until everything is saved.");
    this.send({ kind: "decide", decision, comment: this.parts.comment.value, ...(slice ? { slice: this.slice } : {}) });
  }

  // ------------------------------------------------------------------------------------------ pointer and keyboard

  follow(picture, isMap) {
    const { canvas } = picture;
    let drag = null;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      if (event.ctrlKey) {
        picture.zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
        this.draw();
      } else this.show(this.slice + (event.deltaY < 0 ? 1 : -1));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || drag) return;  // a second finger or button draws nothing of its own
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      const place = picture.place(event);
      const kind = event.button === 2 ? "window" : event.button === 1 ? "pan" : isMap ? (this.tool === "align" ? "align" : "pan") : this.tool;
      drag = { kind, x: event.clientX, y: event.clientY, place };
      if (isMap) return;
      this.cursor = place;
      if (["brush", "eraser"].includes(kind)) { this.brush(place, place); this.draw(); } else if (["polygon", "fill", "pick"].includes(kind)) this.useAt(place);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary) return;
      const place = picture.place(event), dx = event.clientX - (drag?.x ?? 0), dy = event.clientY - (drag?.y ?? 0);
      if (isMap && this.store.state.link) {          // the cross of the structural image follows the map's
        const there = times(inverse(this.store.state.link), [this.t2Slice, ...place]);
        if (!drag) this.cursor = [there[1], there[2]];
      } else if (!isMap) this.cursor = place;
      if (drag?.kind === "window") {
        const width = this.window.high - this.window.low, unit = Math.max(width, 300) / 250;
        this.window = { low: this.window.low + (dy - dx / 2) * unit, high: this.window.high + (dy + dx / 2) * unit };
        if (this.window.high <= this.window.low) this.window.high = this.window.low + 1;
        Object.assign(drag, { x: event.clientX, y: event.clientY });
        return this.refresh();
      }
      if (drag?.kind === "pan") {
        picture.x0 += dx;
        picture.y0 += dy;
        picture.isFitted = false;
        Object.assign(drag, { x: event.clientX, y: event.clientY });
      }
      if (this.stroke && drag) {
        for (const part of event.getCoalescedEvents?.() ?? [event]) this.brush(this.stroke.last, picture.place(part));
        this.brush(this.stroke.last, place);
      }
      this.draw();
    });
    const end = (event) => {
      if (!event.isPrimary) return;
      const ended = drag;
      drag = null;
      if (ended?.kind === "align") {                  // axial: columns lead to the patient's left, rows backwards
        const [r, c] = picture.place(event), { spacing } = this.facts.t2;
        this.nudge(this.inPlane((r - ended.place[0]) * spacing[1], (c - ended.place[1]) * spacing[2]));
      }
      if (this.stroke && ended) this.endStroke();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("dblclick", () => { if (this.tool === "polygon" && !isMap) { this.corners.pop(); this.closePolygon(); } });
  }

  moveCross(dr, dc) {
    const from = [...this.cursor], { shape } = this.facts;
    this.cursor = [clamp(Math.round(from[0]) + dr, 0, shape[1] - 1), clamp(Math.round(from[1]) + dc, 0, shape[2] - 1)];
    if (this.pen && ["brush", "eraser"].includes(this.tool)) this.brush(this.stroke?.last ?? from, this.cursor);
    const { image } = this, edge = 24;  // the picture follows a cross that would leave it
    const x = image.x(this.cursor[1] + 0.5), y = image.y(this.cursor[0] + 0.5);
    const across = clamp(x, edge, image.width - edge) - x, down = clamp(y, edge, image.height - edge) - y;
    if (across || down) {
      image.x0 += across;
      image.y0 += down;
      image.isFitted = false;
    }
    this.draw();
  }

  key(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range";
    event.stopPropagation();     // the notebook has keys of its own
    if (typing) { if (event.key === "Escape" || (event.key === "Enter" && event.target.tagName === "INPUT")) this.root.focusStage(); return; }
    const onButton = event.target.tagName === "BUTTON" || event.target.type === "checkbox";
    const { key, shiftKey, altKey } = event, command = event.ctrlKey || event.metaKey, far = shiftKey ? 8 : 1, mm = shiftKey ? 2 : 0.5;
    const act = this.action(altKey && event.code.startsWith("Digit") ? event.code.slice(5) : key, { shiftKey, altKey, command, onButton, far, mm });
    if (!act) return;
    event.preventDefault();
    act();
  }

  action(key, { shiftKey, altKey, command, onButton, far, mm }) {
    const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (arrows && altKey) return () => {
      const unit = (this.window.high - this.window.low) / 20;
      this.window = { low: this.window.low + arrows[0] * unit, high: Math.max(this.window.high + (arrows[0] + arrows[1]) * unit, this.window.low + 1) };
      this.refresh();
    };
    if (arrows && this.tool === "align" && this.map) return () => this.nudge(this.inPlane(arrows[0] * mm, arrows[1] * mm));
    if (arrows) return () => this.moveCross(arrows[0] * far, arrows[1] * far);
    if (altKey && ["1", "2", "3"].includes(key)) return () => this.decide(["accepted", "rejected", "second reader"][Number(key) - 1], true);
    if (command) {
      if (key.toLowerCase() === "z") return () => this.turn(shiftKey ? "redo" : "undo");
      if (key === "y") return () => this.turn("redo");
      if (key === "s") return () => this.say("Every stroke is saved already; the notebook itself is saved from outside this box.", true);
      return null;
    }
    if (altKey) return null;
    const tool = TOOLS.find(([name, letter]) => letter === key && this.parts[`tool ${name}`]);
    if (tool && tool[0] === "pick" && !onButton) return () => (this.tool === "pick" ? this.choose("brush") : this.pick(this.cursor));
    if (tool) return () => this.choose(tool[0]);
    if ((key === " " || key === "Enter") && onButton) return null;
    const keys = {
      PageUp: () => this.show(this.slice + 1), PageDown: () => this.show(this.slice - 1), Home: () => this.show(0), End: () => this.show(this.facts.shape[0] - 1),
      " ": () => this.useAt(this.cursor.map(Math.round)), Enter: () => (this.corners.length ? this.closePolygon() : this.useAt(this.cursor.map(Math.round))),
      Escape: () => { this.corners = []; this.stroke = null; this.pen = false; this.draw(); },
      d: () => { if (this.pen) this.endStroke(); else if (["brush", "eraser"].includes(this.tool)) { this.pen = true; this.brush(this.cursor, this.cursor); } this.draw(); },
      "[": () => this.setRadius(this.radius - 0.5), "]": () => this.setRadius(this.radius + 0.5),
      "+": () => this.zoomCross(1.25), "=": () => this.zoomCross(1.25), "-": () => this.zoomCross(0.8), 0: () => { this.image.fit(); this.map?.fit(); this.draw(); },
      n: () => this.stepLabel(1), N: () => this.stepLabel(-1), z: () => this.turn("undo"), y: () => this.turn("redo"),
      g: () => this.work("grow"), s: () => this.work("shrink"), h: () => this.work("fill holes"), r: () => this.work("relabel"),
      c: () => this.copy(1), C: () => this.copy(-1), m: () => this.setMark(), i: () => this.interpolate(),
      x: () => { this.parts.erase.checked = !this.parts.erase.checked; }, t: () => this.measure(),
      l: () => { this.opacity = this.opacity > 0 ? 0 : 0.35; this.parts.opacity.value = String(this.opacity); this.draw(); },
      o: () => { this.outline = this.parts.outline.checked = !this.outline; this.draw(); },
      u: () => this.tool === "align" && this.nudge([0, 0, mm, 0]), j: () => this.tool === "align" && this.nudge([0, 0, -mm, 0]),
      ",": () => this.tool === "align" && this.nudge([0, 0, 0, 0.5]), ".": () => this.tool === "align" && this.nudge([0, 0, 0, -0.5]),
      "?": () => this.help.toggleAttribute("hidden"),
    };
    return keys[key] ?? null;
  }

  zoomCross(factor) {
    this.image.zoomAt(factor, this.image.x(this.cursor[1] + 0.5), this.image.y(this.cursor[0] + 0.5));
    this.draw();
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
