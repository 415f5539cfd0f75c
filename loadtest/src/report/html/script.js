"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const W = 1120, LEFT = 54, RIGHT = 12, INNER = W - LEFT - RIGHT;
  const moments = data.moments, looks = data.overlay ? data.overlay.looks : [], decisions = data.overlay ? data.overlay.decisions : [];
  // Of a run that was ended early only what there was is drawn.
  const early = data.early;
  const end = Math.max(data.elapsed, looks.length ? looks[looks.length - 1].at : 0) || 1;
  const x = (t) => LEFT + (t / end) * INNER;
  const phases = data.phases.filter((phase) => phase.begin < end);

  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const svg = (name, attributes = {}, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const time = (s) => {
    if (s === null || s === undefined) return "–";
    if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
    if (s < 1) return `${+(s * 1e3).toPrecision(s < 0.1 ? 2 : 3)} ms`;
    return s < 100 ? `${+s.toPrecision(3)} s` : `${Math.round(s)} s`;
  };
  const clock = (s) => {
    if (end <= 180) return `${+s.toFixed(1)} s`;
    const [h, m, rest] = [Math.floor(s / 3600), Math.floor(s / 60) % 60, Math.round(s % 60)];
    return end > 3600 ? `${h}:${String(m).padStart(2, "0")} h` : `${m}:${String(rest).padStart(2, "0")}`;
  };
  const count = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en"));
  const decimal = (n) => (n >= 100 ? count(n) : String(+n.toFixed(1)));

  // --- head, tiles, tables ---

  const [word, style] = !data.kept_up ? ["INVALID", "invalid"] : data.outcomes.some((o) => !o.pass) ? ["FAIL", "fail"]
    : data.outcomes.length ? ["PASS", "pass"] : ["DONE", "done"];
  const how = data.mode === "open" ? `open loop, ${data.process} arrivals` : `closed loop, ${data.process}`;
  document.getElementById("head").append(
    el("h1", {}, data.title), el("span", { class: `badge ${style}` }, word),
    el("div", { class: "sub" }, [data.started, `${time(data.elapsed)}, ${how}`, data.overlay ? `service ${data.overlay.service}` : ""].filter(Boolean).join(" · ")));
  document.title = `${data.title} – load report`;

  const warn = (title, text) => document.getElementById("warnings").append(el("div", { class: "card warning" }, el("b", {}, title), ` ${text}`));
  if (!data.kept_up) {
    warn("The generator could not keep up.", `It sent ${count(data.pace.late)} of ${count(data.pace.sent)} requests late by its own fault, stood still for ${time(data.pace.stalled)} and had no rest for ${time(data.pace.saturated)}: the figures say little about the server.`);
  }
  if (early) warn("Ended early.", `The plan had ${time(data.duration)}.`);
  if (data.overlay && data.overlay.unseen) warn("Not all was seen.", `The gateway did not answer for ${time(data.overlay.unseen)} of ${time(data.overlay.until)}: figures and charts of replicas leave that out.`);
  if (data.mode === "closed") warn("Closed loop.", "Who waits for an answer sends nothing: response times leave out what would have queued.");

  for (const [value, name, bad] of data.tiles) {
    document.getElementById("tiles").append(el("div", { class: bad ? "tile bad" : "tile" }, el("b", {}, value), el("span", {}, name)));
  }

  const fill = (table, heads, rows) => {
    const isWords = (n) => rows.some((row) => row[n] && row[n].words !== undefined);
    table.append(el("tr", {}, ...heads.map((head, n) => el("th", isWords(n) ? { class: "words" } : {}, head))));
    for (const row of rows) table.append(el("tr", {}, ...row.map((cell) => (cell && cell.words !== undefined ? el("td", { class: "words" }, cell.words) : el("td", {}, String(cell))))));
    return table;
  };
  const figures = ["min", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"];
  fill(document.getElementById("times"), ["", "requests", ...figures],
    data.times.map((row) => [row.name, count(row.count), ...figures.map((figure) => time(row[figure]))]));
  const table = (title, heads, rows) => {
    if (rows.length) document.getElementById("tables").append(el("section", { class: "card scroll" }, el("h2", {}, title), fill(el("table"), heads, rows)));
  };
  table("Gates", ["promise", "found", ""], data.outcomes.map((o) => [o.expression, o.found, o.pass ? "pass" : "FAIL"]));
  if (data.phases.length > 1) {
    table("Phases of the load", ["", "requests", "errors", "p50", "p99", "max"],
      data.phases.map((p, n) => [`${n + 1} ${p.name}`, count(p.requests), count(p.errors), time(p.p50), time(p.p99), time(p.max)]));
  }
  table("Targets", ["", "requests", "errors", "p50", "p99"], data.targets.map((t) => [t.name, count(t.requests), count(t.errors), time(t.p50), time(t.p99)]));
  table("Answers", ["", "requests"], data.answers.map(([name, n]) => [name, count(n)]));
  table("Errors, one of each kind", ["", "what was wrong"], Object.entries(data.examples).map(([kind, words]) => [kind, { words }]));
  const more = data.overlay ? [[data.overlay.repeated, "more said the same as the one before"], [data.overlay.left_out, "more came later and are not listed"]] : [];
  table("Decisions", ["at", "wanted", "why"], [...decisions.map((d) => [clock(d.at), d.want, { words: d.reason }]), ...more.filter(([n]) => n).map(([n, words]) => ["", "", { words: `${count(n)} ${words}` }])]);

  // --- charts ---

  const charts = document.getElementById("charts");
  const crosses = [];
  const nice = (top) => {
    const power = 10 ** Math.floor(Math.log10(top || 1));
    return [1, 2, 2.5, 5, 10].map((step) => step * power).find((value) => value >= top) || top;
  };
  const path = (points, close) => (points.length ? `M${points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join("L")}${close ? "Z" : ""}` : "");
  const keys = (name, list) => el("div", { class: "name" }, el("b", {}, name), ...list.map(([text, color, stroke]) => el("span", { class: stroke ? "key stroke" : "key", style: `--c: var(--${color})` }, text)));

  // A panel with a scale; `marks` are the values with a line.
  const panel = (name, list, height, marks, y, label, last) => {
    const bottom = last ? 22 : 4;
    const root = svg("svg", { viewBox: `0 0 ${W} ${height + bottom}`, role: "img", "aria-label": name });
    for (const mark of marks) {
      root.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(mark), y2: y(mark) }));
      root.append(svg("text", { x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, label(mark)));
    }
    for (const phase of phases.slice(1)) root.append(svg("line", { class: "axis", x1: x(phase.begin), x2: x(phase.begin), y1: 0, y2: height }));
    root.append(svg("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: height, y2: height }));
    if (last) {
      const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
      const step = end < 8 ? end / 8 : steps.find((s) => end / s <= 10) || end / 8;
      for (let t = 0; t <= end * 1.0001; t += step) root.append(svg("text", { x: x(t), y: height + 16, "text-anchor": t ? "middle" : "start" }, clock(t)));
    }
    charts.append(el("div", { class: "panel" }, keys(name, list), root));
    const cross = svg("line", { class: "cross", y1: 0, y2: height, visibility: "hidden" });
    crosses.push(cross);
    root.append(cross);
    return root;
  };
  const add = (root, name, attributes) => root.insertBefore(svg(name, attributes), root.lastChild);

  const seen = moments.filter((m) => m.count);
  const middle = (m) => x(Math.min(m.at + data.width / 2, end));
  // Stretches without requests interrupt what is drawn.
  const runs = (list) => list.reduce((all, m) => {
    const last = all[all.length - 1];
    if (last && m.at - last[last.length - 1].at < Math.max(2.5 * data.width, end / 150)) last.push(m); else all.push([m]);
    return all;
  }, []);

  // Response times, on a logarithmic scale.
  {
    const height = 250, values = seen.flatMap((m) => [m.p50, m.max]).filter((v) => v > 0);
    const low = 10 ** Math.floor(Math.log10(Math.min(...values, 0.1))), high = 10 ** Math.ceil(Math.log10(Math.max(...values, low * 9)));
    // Errors have the foot of the chart to themselves.
    const foot = seen.some((m) => m.errors) ? height - 36 : height;
    const y = (v) => foot - (Math.log10(Math.max(v, low) / low) / Math.log10(high / low)) * (foot - 8);
    const marks = [];
    for (let mark = low; mark <= high * 1.001; mark *= 10) marks.push(mark);
    const root = panel("Response time", [["p50", "blue", true], ["p50 to p90", "band1"], ["p90 to p99", "band2"], ["max", "max", true], ["errors", "bad"], ...(data.slo ? [[`SLO ${time(data.slo)}`, "good", true]] : [])], height, marks, y, time, false);
    const band = (lower, upper, fill) => runs(seen).forEach((run) => add(root, "path", { d: path([...run.map((m) => [middle(m), y(m[upper])]), ...run.slice().reverse().map((m) => [middle(m), y(m[lower])])], true), fill: `var(--${fill})` }));
    const line = (key, color, width) => runs(seen).forEach((run) => add(root, "path", { d: path(run.map((m) => [middle(m), y(m[key])])), fill: "none", stroke: `var(--${color})`, "stroke-width": width, "stroke-linejoin": "round" }));
    band("p90", "p99", "band2");
    band("p50", "p90", "band1");
    line("max", "max", 1);
    line("p50", "blue", 2);
    runs(seen).filter((run) => run.length === 1).forEach(([m]) => add(root, "circle", { cx: middle(m), cy: y(m.p50), r: 2.5, fill: "var(--blue)" }));
    if (data.slo) add(root, "line", { x1: LEFT, x2: W - RIGHT, y1: y(data.slo), y2: y(data.slo), stroke: "var(--good)", "stroke-dasharray": "5 4" });
    const most = Math.max(...seen.map((m) => m.errors), 1), wide = Math.max(1.5, (data.width / end) * INNER);
    seen.filter((m) => m.errors).forEach((m) => add(root, "rect", { x: middle(m) - wide / 2, width: wide, y: height - 4 - 26 * (m.errors / most), height: 4 + 26 * (m.errors / most), fill: "var(--bad)" }));
    for (const [n, phase] of phases.entries()) {
      const room = x(Math.min(phase.end, end)) - x(phase.begin);
      if (data.phases.length > 1 && room > 24) add(root, "text", { x: x(phase.begin) + 4, y: 10 }).textContent = room > 7 * phase.name.length ? phase.name : n + 1;
    }
  }

  // Replicas, as they stood from one look to the next.
  if (looks.length) {
    const height = 130, top = Math.max(...looks.map((l) => Math.max(l.ready + l.starting + l.leaving, l.want)), 1);
    const y = (v) => height - (v / (top * 1.1)) * height;
    const step = Math.max(1, Math.ceil(top / 4)), marks = [];
    for (let mark = 0; mark <= top; mark += step) marks.push(mark);
    const root = panel("Replicas", [["ready", "ready"], ["starting", "starting"], ["leaving", "leaving"], ["wanted", "want", true], ["decision", "tick", true]], height, marks, y, String, false);
    const stairs = (value) => looks.flatMap((l, n) => [[x(l.at), y(value(l))], [x(n + 1 < looks.length ? looks[n + 1].at : l.at), y(value(l))]]);
    const area = (lower, upper, fill) => add(root, "path", { d: path([...stairs(upper), ...stairs(lower).reverse()], true), fill: `var(--${fill})`, "fill-opacity": 0.85 });
    area(() => 0, (l) => l.ready, "ready");
    area((l) => l.ready, (l) => l.ready + l.starting, "starting");
    area((l) => l.ready + l.starting, (l) => l.ready + l.starting + l.leaving, "leaving");
    add(root, "path", { d: path(stairs((l) => l.want)), fill: "none", stroke: "var(--want)", "stroke-width": 1.5 });
    decisions.forEach((d) => {
      const tick = add(root, "line", { class: "tick", x1: x(d.at), x2: x(d.at), y1: 0, y2: 11, stroke: "var(--tick)", "stroke-width": 2 });
      tick.append(svg("title", {}, `${clock(d.at)}: want ${d.want}. ${d.reason}`));
    });
  }

  // Requests per second: what was planned, what was answered.
  {
    const height = 110, rate = (m) => m.count / Math.min(data.width, Math.max(end - m.at, data.width / 4));
    const top = nice(Math.max(...moments.map(rate), ...(early ? [] : data.planned), 1)), y = (v) => height - (v / top) * (height - 6);
    const root = panel("Requests per second", [["due", "blue"], ["failed", "bad"], ["planned", "plan", true]], height, [0, top / 2, top], y, decimal, !looks.length && !data.told);
    const bar = (value, fill) => moments.forEach((m) => {
      if (value(m)) add(root, "rect", { x: x(m.at), width: Math.max(1, (data.width / end) * INNER - 0.4), y: y(value(m)), height: height - y(value(m)), fill: `var(--${fill})` });
    });
    bar(rate, "band1");
    bar((m) => rate(m) * (m.errors / (m.count || 1)), "bad");
    const at = (n) => ((n + 0.5) / data.planned.length) * data.duration;
    const planned = data.planned.map((v, n) => [at(n), v]).filter(([t]) => t <= end);
    if (planned.length) add(root, "path", { d: path(planned.map(([t, v]) => [x(t), y(v)])), fill: "none", stroke: "var(--plan)", "stroke-width": 1.5 });
  }

  // Queue and requests in flight, as the server has them.
  if (looks.length) {
    const height = 90, top = nice(Math.max(...looks.map((l) => Math.max(l.queued, l.in_flight)), 1)), y = (v) => height - (v / top) * (height - 6);
    const root = panel("At the server", [["waiting", "queue"], ["in flight", "flight", true]], height, [0, top / 2, top], y, decimal, !data.told);
    add(root, "path", { d: path([[x(looks[0].at), height], ...looks.map((l) => [x(l.at), y(l.queued)]), [x(looks[looks.length - 1].at), height]], true), fill: "var(--queue)", "fill-opacity": 0.6 });
    add(root, "path", { d: path(looks.map((l) => [x(l.at), y(l.in_flight)])), fill: "none", stroke: "var(--flight)", "stroke-width": 1.5 });
  }

  // The cold-start tax: what the server says it spent its time on, in the mean.
  if (data.told) {
    const told = seen.filter((m) => m.queue !== null || m.upstream !== null), sum = (m) => (m.queue || 0) + (m.start || 0) + (m.upstream || 0);
    const height = 100, top = nice(Math.max(...told.map(sum), 0.001)), y = (v) => height - (v / top) * (height - 6);
    const root = panel("Where time goes (mean)", [["app", "ready"], ["start", "starting"], ["queue", "queue"]], height, [0, top / 2, top], y, time, true);
    const wide = Math.max(1.5, (data.width / end) * INNER - 0.4);
    for (const m of told) {
      let base = 0;
      for (const [key, color] of [["upstream", "ready"], ["start", "starting"], ["queue", "queue"]]) {
        const value = m[key] || 0;
        if (value) add(root, "rect", { x: x(m.at), width: wide, y: y(base + value), height: Math.max(0.5, y(base) - y(base + value)), fill: `var(--${color})` });
        base += value;
      }
    }
  }

  // --- what the mouse is over ---

  const tip = document.getElementById("tip");
  const latest = (list, t) => { let found = null; for (const item of list) if (item.at <= t) found = item; return found; };
  charts.addEventListener("mousemove", (event) => {
    const box = charts.querySelector("svg").getBoundingClientRect();
    const t = (((event.clientX - box.left) / box.width) * W - LEFT) / INNER * end;
    if (t < 0 || t > end) return hide();
    crosses.forEach((cross) => { cross.setAttribute("x1", x(t)); cross.setAttribute("x2", x(t)); cross.setAttribute("visibility", "visible"); });
    const m = moments.find((m) => t >= m.at && t < m.at + data.width), l = latest(looks, t), d = latest(decisions, t);
    const rows = [["at", clock(t)]];
    if (m && m.count) rows.push(["requests due", count(m.count)], ["errors", count(m.errors)], ["p50", time(m.p50)], ["p99", time(m.p99)], ["max", time(m.max)]);
    if (m && m.cold) rows.push(["cold", count(m.cold)]);
    if (l) rows.push(["ready / wanted", `${l.ready} / ${l.want}`], ["waiting", count(l.queued)], ["in flight", count(l.in_flight)]);
    tip.replaceChildren(el("table", {}, ...rows.map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", {}, value)))));
    if (d) tip.append(el("div", { class: "why" }, `${clock(d.at)}: want ${d.want}. ${d.reason}`));
    tip.style.display = "block";
    tip.style.left = `${Math.min(event.clientX + 16, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
  const hide = () => { tip.style.display = "none"; crosses.forEach((cross) => cross.setAttribute("visibility", "hidden")); };
  charts.addEventListener("mouseleave", hide);
  document.body.dataset.drawn = document.querySelectorAll("#charts svg").length;
})();
