"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const SIZE = { width: 640, height: 470, left: 62, right: 16, top: 16, bottom: 52 };
  const MAX_LFC = 10;
  const N_LABELS = 12;

  function sortRows(table, column, kind, direction) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const key = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.sort !== undefined ? cell.dataset.sort : kind === "text" ? cell.textContent : null;
      return kind === "number" && value !== null ? Number(value) : value;
    };
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null);
      const order = kind === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return direction * order;
    };
    rows.sort(compare).forEach((row) => body.appendChild(row));
  }

  function makeSortable(table) {
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
        sortRows(table, column, kind, falling ? -1 : 1);
      });
    });
  }

  function makeSearchable(table, input, output) {
    const rows = Array.from(table.tBodies[0].rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const update = () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !texts[i].includes(wanted);
        shown += !row.hidden;
      });
      output.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
    };
    input.addEventListener("input", update);
    update();
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
    const inner = group.points.map((p) => Math.abs(p[1])).filter((x) => x <= MAX_LFC);
    const limit = Math.max(0.5, ...inner) * 1.08;
    const top = Math.max(-Math.log10(data.alpha), ...group.points.map((p) => p[2])) * 1.1;
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
    const p = point[2] >= 300 ? "below 1e-300" : Math.pow(10, -point[2]).toPrecision(2);
    return `${data.genes[point[0]]}: log2FC ${minus(point[1].toFixed(2))}, adj p ${p}`;
  }

  function drawPoints(plot, group, scale) {
    const order = group.points.slice().sort((a, b) => a[2] - b[2]);
    order.forEach((point) => {
      const side = !isHit(point) ? "" : point[1] < 0 ? " down" : " up";
      const node = draw(plot, "circle", { class: "point" + side, cx: scale.x(point[1]), cy: scale.y(point[2]), r: side ? 4.2 : 3.2 });
      draw(node, "title", {}, pointText(point));
      if (point[0] === group.target) draw(plot, "circle", { class: "ring", cx: scale.x(point[1]), cy: scale.y(point[2]), r: 7.5 });
    });
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
    group.top.forEach(([gene, lfc, p, adjusted, control, perturbed, hit]) => {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.className = "gene";
      head.textContent = data.genes[gene] + (gene === group.target ? " (target)" : "");
      row.appendChild(head);
      [lfc, p, adjusted, control, perturbed].forEach((value, i) => {
        const cell = row.insertCell();
        cell.className = "number" + (i === 0 && hit ? (lfc.includes("\u2212") ? " down" : " up") : "");
        cell.textContent = value;
      });
    });
  }

  function show(index) {
    const group = data.groups[index];
    const plot = document.getElementById("plot");
    plot.replaceChildren();
    const scale = scales(group);
    drawAxes(plot, scale);
    drawPoints(plot, group, scale);
    drawLabels(plot, group, scale);
    plot.setAttribute("aria-label", `Volcano plot of ${group.name} against ${data.control}: ${group.lowered} genes lowered, ${group.raised} raised`);
    document.getElementById("plot-caption").textContent = caption(group);
    fillTopGenes(document.getElementById("top-genes"), group);
    document.querySelectorAll("#table-perturbations [data-perturbation]").forEach((link) => {
      link.closest("tr").toggleAttribute("aria-current", link.dataset.perturbation === group.name);
    });
  }

  function start() {
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    const table = document.getElementById("table-perturbations");
    makeSearchable(table, document.getElementById("search"), document.getElementById("found"));
    const choose = document.getElementById("choose");
    data.groups.forEach((group, index) => {
      const option = document.createElement("option");
      option.value = index;
      option.textContent = `${group.name} (${group.lowered + group.raised} genes)`;
      choose.appendChild(option);
    });
    choose.addEventListener("change", () => show(Number(choose.value)));
    table.addEventListener("click", (event) => {
      const link = event.target.closest("[data-perturbation]");
      if (!link) return;
      const index = data.groups.findIndex((group) => group.name === link.dataset.perturbation);
      choose.value = index;
      show(index);
    });
    if (data.groups.length) show(0);
  }

  start();
})();
