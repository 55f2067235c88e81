"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const SIZE = { width: 640, height: 470, left: 62, right: 16, top: 16, bottom: 52 };
  const MAX_LFC = 10;
  const N_LABELS = 12;
  const CEILING = 300;
  const NEAR = 10;

  const PAGE_ROWS = 200;
  const NOTHING = "\u2013";
  const unpacked = new Map();

  // All rows of a table, those that wait in its template included; at most some are in the page.
  function tableView(table) {
    const name = table.id.replace("table-", "");
    const body = table.tBodies[0];
    const waiting = document.getElementById(`more-${name}`);
    const note = document.getElementById(`note-${name}`);
    const view = { rows: Array.from(body.rows), shown: PAGE_ROWS, wanted: "", found: 0 };
    if (waiting) {
      view.rows.push(...waiting.content.querySelectorAll("tr"));
      note.querySelector("button").hidden = false;
      note.querySelector("button").addEventListener("click", () => {
        view.shown += PAGE_ROWS;
        view.render();
      });
    }
    view.render = () => {
      const found = view.wanted ? view.rows.filter((row) => textOf(row).includes(view.wanted)) : view.rows;
      view.found = found.length;
      body.replaceChildren(...found.slice(0, view.shown));
      if (note) {
        note.querySelector("span").textContent = `${Math.min(view.shown, found.length).toLocaleString("en")} of ${found.length.toLocaleString("en")} rows are shown.`;
        note.querySelector("button").hidden = view.shown >= found.length;
      }
    };
    return view;
  }

  const texts = new WeakMap();
  function textOf(row) {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  }

  function sortRows(view, column, kind, direction) {
    const key = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.sort !== undefined ? cell.dataset.sort : kind === "text" ? cell.textContent : null;
      return kind === "number" && value !== null ? Number(value) : value;
    };
    const collator = new Intl.Collator("en", { numeric: true });
    const compare = ([x], [y]) => {
      if (x === null || y === null) return (x === null) - (y === null);
      return direction * (kind === "number" ? x - y : collator.compare(x, y));
    };
    view.rows = view.rows.map((row) => [key(row), row]).sort(compare).map(([, row]) => row);
    view.render();
  }

  function makeSortable(table) {
    const view = tableView(table);
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const kind = head.dataset.kind;
      if (!kind) return;
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Sort by ${head.textContent}`);
      // The arrow stays on the line of the last word.
      const words = head.textContent.split(" ");
      const last = document.createElement("span");
      last.append(words.pop(), button);
      head.replaceChildren(words.map((word) => word + " ").join(""), last);
      head.title = "Sort by this column";
      head.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        sortRows(view, column, kind, falling ? -1 : 1);
      });
    });
    return view;
  }

  function makeSearchable(view, input, output) {
    const update = () => {
      view.wanted = input.value.trim().toLowerCase();
      view.shown = PAGE_ROWS;
      view.render();
      output.textContent = view.wanted ? `${view.found} of ${view.rows.length} rows` : "";
    };
    input.addEventListener("input", update);
  }

  function bytesOf(text) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes.buffer;
  }

  // Points [gene, log2FC, -log10 adjusted p] and top genes of a perturbation, unpacked once.
  function unpack(index) {
    if (unpacked.has(index)) return unpacked.get(index);
    const packed = data.groups[index];
    const wide = data.genes.length > 65536;
    const bytes = bytesOf(packed.points);
    const n = bytes.byteLength / (wide ? 8 : 6);
    const genes = wide ? new Uint32Array(bytes, 0, n) : new Uint16Array(bytes, 0, n);
    const start = n * (wide ? 4 : 2);
    const lfc = new Int16Array(bytes, start, n);
    const height = new Uint16Array(bytes, start + 2 * n, n);
    const points = Array.from(genes, (gene, i) => [gene, lfc[i] / 1000, height[i] / 100]);
    const table = new Float32Array(bytesOf(packed.top));
    const m = table.length / 5;
    const top = Array.from({ length: m }, (_, i) => ({ gene: genes[i], p: table[i], adjusted: table[m + i], lfc: table[2 * m + i], control: table[3 * m + i], perturbed: table[4 * m + i] }));
    const group = Object.assign({}, packed, { points: points, top: top });
    unpacked.set(index, group);
    return group;
  }

  function pText(log10p) {
    if (Number.isNaN(log10p)) return NOTHING;
    if (log10p < -CEILING) return "< 1e-300";
    const p = Math.pow(10, log10p);
    if (p >= 0.001) return String(Number(p.toPrecision(2)));
    return p.toExponential(1);
  }

  function lfcText(value) {
    if (!Number.isFinite(value)) return NOTHING;
    const sign = value < 0 ? "\u2212" : "+";
    if (Math.abs(value) > MAX_LFC) return `${value < 0 ? "<" : ">"} ${sign}${MAX_LFC}`;
    return sign + Math.abs(value).toFixed(2);
  }

  function percentText(fraction) {
    if (!Number.isFinite(fraction)) return NOTHING;
    return `${(100 * fraction).toFixed(fraction < 0.1 ? 1 : 0)}\u00a0%`;
  }

  function draw(parent, name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }

  function niceStep(range, n) {
    const rough = range / n;
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= rough);
  }

  function ticks(low, high, n) {
    const step = niceStep(high - low, n);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k++) found.push(k * step);
    return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step))) };
  }

  function minus(text) {
    return text.replace("-", "\u2212");
  }

  function scales(group) {
    const widest = group.points.reduce((most, p) => (Math.abs(p[1]) <= MAX_LFC ? Math.max(most, Math.abs(p[1])) : most), 0.5);
    const limit = widest * 1.08;
    const top = group.points.reduce((most, p) => Math.max(most, p[2]), -Math.log10(data.alpha)) * 1.1;
    const width = SIZE.width - SIZE.left - SIZE.right;
    const height = SIZE.height - SIZE.top - SIZE.bottom;
    const clip = (x) => Math.max(-limit, Math.min(limit, x));
    return {
      limit: limit,
      top: top,
      x: (x) => SIZE.left + (width * (clip(x) + limit)) / (2 * limit),
      y: (y) => SIZE.top + height * (1 - y / top),
    };
  }

  function drawAxes(plot, scale) {
    const base = SIZE.height - SIZE.bottom;
    const cut = scale.y(-Math.log10(data.alpha));
    draw(plot, "line", { class: "cut", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: cut, y2: cut });
    draw(plot, "line", { class: "cut", x1: scale.x(0), x2: scale.x(0), y1: SIZE.top, y2: base });
    draw(plot, "path", { class: "axis", d: `M${SIZE.left} ${SIZE.top}V${base}H${SIZE.width - SIZE.right}` });
    const across = ticks(-scale.limit, scale.limit, 6);
    across.values.forEach((value) => {
      draw(plot, "path", { class: "axis", d: `M${scale.x(value)} ${base}v5` });
      draw(plot, "text", { class: "tick", x: scale.x(value), y: base + 19, "text-anchor": "middle" }, minus((value + 0).toFixed(across.digits)));
    });
    const up = ticks(0, scale.top, 6);
    up.values.forEach((value) => {
      draw(plot, "path", { class: "axis", d: `M${SIZE.left} ${scale.y(value)}h-5` });
      draw(plot, "text", { class: "tick", x: SIZE.left - 9, y: scale.y(value) + 4, "text-anchor": "end" }, value.toFixed(up.digits));
    });
    draw(plot, "text", { x: (SIZE.left + SIZE.width - SIZE.right) / 2, y: SIZE.height - 10, "text-anchor": "middle" }, "log2FC (perturbed / control cells)");
    const middle = (SIZE.top + base) / 2;
    draw(plot, "text", { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, "\u2212log10(adj p)");
  }

  function isHit(point) {
    return point[2] >= -Math.log10(data.alpha) - 0.005;
  }

  function pointText(point) {
    return `${data.genes[point[0]]}: log2FC ${lfcText(point[1])}, adj p ${pText(-point[2])}`;
  }

  // One path per kind: a dot is a line of no length with round ends, and thousands draw fast.
  function drawPoints(plot, group, scale) {
    const paths = { "": [], " down": [], " up": [] };
    group.points.forEach((point) => {
      const side = !isHit(point) ? "" : point[1] < 0 ? " down" : " up";
      paths[side].push(`M${scale.x(point[1]).toFixed(1)} ${scale.y(point[2]).toFixed(1)}h0`);
    });
    for (const side in paths) {
      if (paths[side].length) draw(plot, "path", { class: "point" + side, d: paths[side].join("") });
    }
    const target = group.points.find((point) => point[0] === group.target);
    if (target) draw(plot, "circle", { class: "ring", cx: scale.x(target[1]), cy: scale.y(target[2]), r: 7.5 });
  }

  function makeTip(plot, tip) {
    let current = null;
    plot.addEventListener("pointermove", (event) => {
      if (!current) return;
      const frame = plot.getBoundingClientRect();
      const ratio = SIZE.width / frame.width;
      const x = (event.clientX - frame.left) * ratio, y = (event.clientY - frame.top) * ratio;
      let nearest = null, least = NEAR * NEAR;
      current.group.points.forEach((point) => {
        const dx = current.scale.x(point[1]) - x, dy = current.scale.y(point[2]) - y;
        if (dx * dx + dy * dy < least) {
          least = dx * dx + dy * dy;
          nearest = point;
        }
      });
      tip.hidden = !nearest;
      if (!nearest) return;
      tip.textContent = pointText(nearest);
      tip.style.left = `${Math.min(event.clientX - frame.left + 12, frame.width - tip.offsetWidth)}px`;
      tip.style.top = `${event.clientY - frame.top + 14}px`;
    });
    plot.addEventListener("pointerleave", () => { tip.hidden = true; });
    return (group, scale) => { current = { group: group, scale: scale }; tip.hidden = true; };
  }

  function drawLabels(plot, group, scale) {
    const hits = group.points.filter((point) => isHit(point) || point[0] === group.target);
    hits.sort((a, b) => (b[0] === group.target) - (a[0] === group.target) || b[2] - a[2]);
    const centers = group.points.map((point) => [scale.x(point[1]), scale.y(point[2])]);
    const boxes = [];
    hits.slice(0, N_LABELS).forEach((point) => {
      const isTarget = point[0] === group.target;
      const node = draw(plot, "text", { class: "gene" + (isTarget ? " target" : "") }, data.genes[point[0]]);
      const size = node.getBBox();
      const px = scale.x(point[1]), py = scale.y(point[2]);
      const box = place(px, py, size.width, size.height, isTarget ? 11 : 7, centers, boxes);
      if (!box) {
        node.remove();
        return;
      }
      boxes.push(box);
      node.setAttribute("x", box.x);
      node.setAttribute("y", box.y + size.height * 0.78);
      if (box.far) {
        const edge = Math.max(box.x, Math.min(px, box.x + box.w));
        const line = draw(plot, "line", { class: "leader", x1: px, y1: py, x2: edge, y2: box.y < py ? box.y + box.h : box.y });
        plot.insertBefore(line, plot.querySelector(".point"));
      }
    });
  }

  function place(px, py, w, h, gap, centers, boxes) {
    for (const distance of [0, 10, 22, 36, 50]) {
      const d = gap + distance;
      const places = [
        [px + d, py - h / 2], [px - d - w, py - h / 2], [px - w / 2, py - d - h],
        [px + d * 0.7, py - d * 0.7 - h], [px - d * 0.7 - w, py - d * 0.7 - h],
        [px + d * 0.7, py + d * 0.7], [px - d * 0.7 - w, py + d * 0.7], [px - w / 2, py + d],
      ];
      for (const [x, y] of places) {
        const inside = x > SIZE.left + 2 && x + w < SIZE.width - 2 && y > 2 && y + h < SIZE.height - SIZE.bottom - 2;
        const crossed = boxes.some((b) => x < b.x + b.w && b.x < x + w && y < b.y + b.h && b.y < y + h);
        const covering = centers.some(([cx, cy]) => cx > x - 4 && cx < x + w + 4 && cy > y - 2 && cy < y + h + 2);
        if (inside && !crossed && !covering) return { x: x, y: y, w: w, h: h, far: distance > 0 };
      }
    }
    return null;
  }

  function caption(group) {
    const parts = [`${group.lowered} genes lowered and ${group.raised} raised at adj p \u2264 ${data.alpha}, in ${group.cells.toLocaleString("en")} cells.`];
    if (group.target !== null) parts.push(`The ring marks the target, ${data.genes[group.target]}.`);
    if (group.untested) parts.push(`${group.untested} genes too rare to be tested are not drawn.`);
    if (group.hidden) parts.push(`${group.hidden.toLocaleString("en")} of the less significant genes are left out of this picture.`);
    const beyond = group.points.filter((point) => Math.abs(point[1]) > MAX_LFC).length;
    if (beyond) parts.push(`${beyond} genes with |log2FC| > ${MAX_LFC} stand at the edge.`);
    return parts.join(" ");
  }

  function fillTopGenes(table, group) {
    table.caption.textContent = `Top genes of ${group.name}`;
    const body = table.tBodies[0];
    body.replaceChildren();
    group.top.forEach((one) => {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.className = "gene";
      head.textContent = data.genes[one.gene] + (one.gene === group.target ? " (target)" : "");
      row.appendChild(head);
      const hit = one.adjusted <= Math.log10(data.alpha);
      [lfcText(one.lfc), pText(one.p), pText(one.adjusted), percentText(one.control), percentText(one.perturbed)].forEach((value, i) => {
        const cell = row.insertCell();
        cell.className = "number" + (i === 0 && hit ? (one.lfc < 0 ? " down" : " up") : "");
        cell.textContent = value;
      });
    });
  }

  function markRow(table, name) {
    table.querySelectorAll("tr[aria-current]").forEach((row) => row.removeAttribute("aria-current"));
    table.querySelectorAll("[data-perturbation]").forEach((link) => {
      if (link.dataset.perturbation === name) link.closest("tr").setAttribute("aria-current", "true");
    });
  }

  function start() {
    const views = new Map();
    document.querySelectorAll("table.sortable").forEach((table) => views.set(table, makeSortable(table)));
    const table = document.getElementById("table-perturbations");
    makeSearchable(views.get(table), document.getElementById("search"), document.getElementById("found"));
    const choose = document.getElementById("choose");
    const plot = document.getElementById("plot");
    const follow = makeTip(plot, document.getElementById("tip"));
    const number = new Map(data.groups.map((group, index) => [group.name, index]));

    function show(index) {
      const group = unpack(index);
      const scale = scales(group);
      choose.value = index;
      plot.replaceChildren();
      drawAxes(plot, scale);
      drawPoints(plot, group, scale);
      drawLabels(plot, group, scale);
      follow(group, scale);
      plot.setAttribute("aria-label", `Volcano plot of ${group.name} against ${data.control}: ${group.lowered} genes lowered, ${group.raised} raised`);
      document.getElementById("plot-caption").textContent = caption(group);
      fillTopGenes(document.getElementById("top-genes"), group);
      markRow(table, group.name);
    }

    choose.append(...data.groups.map((group, index) => new Option(`${group.name} (${group.lowered + group.raised} genes)`, index)));
    choose.addEventListener("change", () => show(Number(choose.value)));
    const move = (step) => () => show((Number(choose.value) + step + data.groups.length) % data.groups.length);
    document.getElementById("previous").addEventListener("click", move(-1));
    document.getElementById("following").addEventListener("click", move(1));
    table.addEventListener("click", (event) => {
      const link = event.target.closest("[data-perturbation]");
      if (link) show(number.get(link.dataset.perturbation));
    });
    if (data.groups.length) show(0);
  }

  start();
})();
