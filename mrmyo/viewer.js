// A surface view of labels for mrmyo.view3d: points with normals on a plain canvas. No network, no WebGL.
// `draw_surface` in viewer.py draws the same picture. For research use only, not a medical device.

const word = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36)).join("");

function copied(buffer, Kind) {
  const bytes = new Uint8Array(buffer.byteLength);
  bytes.set(new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength));
  return new Kind(bytes.buffer);
}

function draw(canvas, facts, cloud, view) {
  const { width, height } = canvas, context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const data = new Uint32Array(picture.data.buffer), depth = new Float32Array(width * height).fill(-1e9);
  data.fill(255 << 24);
  const [yaw, pitch] = [view.yaw, view.pitch].map((angle) => angle * Math.PI / 180);
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  const norm = Math.hypot(...facts.light), light = [facts.light[0] / norm, -facts.light[1] / norm, facts.light[2] / norm];
  const zoom = view.zoom * 0.92 * Math.min(width, height) / (2 * cloud.radius + facts.step_mm);
  const half = Math.max(Math.ceil(facts.step_mm * zoom / 2), 1), scale = facts.half_mm / 32767;
  for (let i = 0; i < cloud.values.length; i++) {
    const colour = view.colours.get(cloud.values[i]);
    if (!colour) continue;
    const [x, y, z, u, v, w] = [0, 1, 2, 3, 4, 5].map((k) => (k < 3 ? cloud.points[3 * i + k] * scale : cloud.normals[3 * i + k - 3] / 127));
    const x1 = cy * x - sy * y, y1 = sy * x + cy * y, u1 = cy * u - sy * v, v1 = sy * u + cy * v;
    const near = cp * y1 - sp * z, up = sp * y1 + cp * z, v2 = cp * v1 - sp * w, w2 = sp * v1 + cp * w;
    const shade = 0.35 + 0.65 * Math.min(Math.max(u1 * light[0] + v2 * light[1] + w2 * light[2], 0), 1);
    const paint = (255 << 24) | (Math.round(colour[2] * shade) << 16) | (Math.round(colour[1] * shade) << 8) | Math.round(colour[0] * shade);
    const c0 = Math.round(width / 2 - x1 * zoom), r0 = Math.round(height / 2 - up * zoom);
    for (let r = Math.max(r0 - half, 0); r <= Math.min(r0 + half, height - 1); r++) {
      for (let c = Math.max(c0 - half, 0); c <= Math.min(c0 + half, width - 1); c++) {
        const at = r * width + c;
        if (near >= depth[at]) { depth[at] = near; data[at] = paint; }
      }
    }
  }
  context.putImageData(picture, 0, 0);
}

export default {
  render({ model, el }) {
    const facts = model.get("facts"), id = word();
    const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    const view = { yaw: -25, pitch: -15, zoom: 1, colours: new Map(facts.labels.map((one) => [one.value, rgb(one.colour)])) };
    const canvas = document.createElement("canvas"), told = document.createElement("div"), list = document.createElement("div");
    const root = document.createElement("div"), body = document.createElement("div");
    Object.assign(canvas, { width: Math.round(facts.height * 1.25), height: facts.height, tabIndex: 0 });
    canvas.setAttribute("aria-label", "labels in three dimensions; drag or arrows turn, wheel or + and − zoom");
    canvas.style.cssText = "background: #000; touch-action: none; cursor: grab";
    told.textContent = `${facts.told}; drag or arrows turn, wheel or + and − zoom. Research use only.`;
    told.style.cssText = "font: 12px system-ui, sans-serif; padding: 3px";
    body.style.cssText = "display: flex; gap: 8px";
    list.style.cssText = `font: 12px system-ui, sans-serif; max-height: ${facts.height}px; overflow-y: auto`;
    root.className = "mrmyo-surface";
    root.setAttribute("data-lm-suppress-shortcuts", "true");
    let cloud = null, wanted = false;
    const show = () => {
      if (!cloud || wanted) return;
      wanted = true;
      requestAnimationFrame(() => {
        wanted = false;
        const from = performance.now();
        draw(canvas, facts, cloud, view);
        Object.assign(root.dataset, { drawn: "true", drawMs: (performance.now() - from).toFixed(1), yaw: view.yaw, pitch: view.pitch });
      });
    };
    for (const one of facts.labels) {
      const line = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("span");
      Object.assign(box, { type: "checkbox", checked: true });
      box.onchange = () => { view.colours[box.checked ? "set" : "delete"](one.value, rgb(one.colour)); show(); };
      swatch.style.cssText = `display: inline-block; width: 10px; height: 10px; background: ${one.colour}; border: 1px solid #888`;
      line.style.display = "block";
      line.append(box, swatch, ` ${one.name}`);
      list.append(line);
    }
    const turn = (yaw, pitch) => {
      view.yaw = (view.yaw + yaw) % 360;
      view.pitch = Math.min(Math.max(view.pitch + pitch, -90), 90);
      show();
    };
    let from = null;
    canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); from = [event.clientX, event.clientY]; };
    canvas.onpointermove = (event) => {
      if (!from) return;
      turn((event.clientX - from[0]) / 2, (event.clientY - from[1]) / 2);
      from = [event.clientX, event.clientY];
    };
    canvas.onpointerup = canvas.onpointercancel = () => { from = null; };
    const zoom = (factor) => { view.zoom = Math.min(Math.max(view.zoom * factor, 0.3), 8); show(); };
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15); }, { passive: false });
    canvas.onkeydown = (event) => {
      const act = { ArrowLeft: () => turn(-10, 0), ArrowRight: () => turn(10, 0), ArrowUp: () => turn(0, -10), ArrowDown: () => turn(0, 10),
        "+": () => zoom(1.15), "-": () => zoom(1 / 1.15) }[event.key];
      if (act) { event.preventDefault(); event.stopPropagation(); act(); }
    };
    const receive = (message, buffers) => {
      if (message.kind !== "points" || message.view !== id) return;
      cloud = { points: copied(buffers[0], Int16Array), normals: copied(buffers[1], Int8Array), values: copied(buffers[2], Uint8Array), radius: 0 };
      for (let i = 0; i < cloud.points.length; i += 3) {
        cloud.radius = Math.max(cloud.radius, Math.hypot(cloud.points[i], cloud.points[i + 1], cloud.points[i + 2]));
      }
      cloud.radius *= facts.half_mm / 32767;
      show();
    };
    body.append(canvas, list);
    root.append(told, body);
    el.append(root);
    model.on("msg:custom", receive);
    model.send({ kind: "hello", view: id });
    return () => model.off("msg:custom", receive);
  },
};
