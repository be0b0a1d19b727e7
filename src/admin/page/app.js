"use strict";
// Asks /v1/overview once a second, /metrics for rates and times, /v1/errors when there are new ones, and shows it.

const $ = (id) => document.getElementById(id);
const PAUSE = 1000, PATIENCE = 5000, POINTS = 60;
const known = { overview: null, counts: null, at: 0, lines: new Map(), failure: 0, server: null, declined: false, pressed: false };

const make = (tag, cls, text) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  return node;
};

// ---- asking

let asking = null; // one dialog for the token at a time

const token = () => sessionStorage.getItem("token") || "";

async function ask(path, body, again) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const how = { headers, signal: AbortSignal.timeout(PATIENCE * (body === undefined ? 1 : 12)) };
  if (body !== undefined) {
    how.method = "POST";
    headers["Content-Type"] = "application/json";
    how.body = body;
  }
  const answer = await fetch(path, how);
  if (answer.status !== 401) return answer;
  sessionStorage.removeItem("token");
  if (!again && !known.declined && (await askToken())) return ask(path, body, true);
  return answer;
}

async function change(path, body = "{}") {
  // who is to show a token is asked before, so that no request fails
  if (known.overview?.token && !token() && !(await askToken())) throw new Error("nothing was done: no token was given");
  const answer = await ask(path, body);
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.error);
  return document;
}

function askToken() {
  if (asking) return asking;
  const dialog = $("ask-token");
  $("token").value = dialog.returnValue = "";
  dialog.showModal();
  asking = new Promise((done) => {
    dialog.onclose = () => {
      asking = null;
      const given = dialog.returnValue === "use" && $("token").value;
      if (given) sessionStorage.setItem("token", given);
      known.declined = !given;
      done(Boolean(given));
    };
  });
  return asking;
}

// ---- numbers, from the page that Prometheus reads

const SAMPLE = /^([a-z_]+)(?:\{(.*)\})? ([0-9.eE+-]+|\+Inf)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

function counts(text) {
  const found = new Map();
  const of = (key) => {
    if (!found.has(key)) found.set(key, { all: 0, bad: 0, buckets: new Map() });
    return found.get(key);
  };
  for (const line of text.split("\n")) {
    const sample = /^weirgate_(route|upstream|server)_(requests_total|request_duration_seconds_bucket|first_byte_duration_seconds_bucket)/.test(line) && SAMPLE.exec(line);
    if (!sample) continue;
    const labels = {};
    for (const [, name, value] of (sample[2] || "").matchAll(LABEL)) labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    const kind = sample[1].split("_")[1], number = Number(sample[3]);
    const key = kind === "server" ? `server ${labels.upstream} ${labels.server}` : `${kind} ${labels[kind]}`;
    if (sample[1].endsWith("_requests_total")) {
      const entry = of(key), code = labels.code || labels.status || labels.class || "";
      entry.all += number;
      if (code.startsWith("5") || code === "none" || code === "0") entry.bad += number;
    } else if (sample[1].endsWith("_request_duration_seconds_bucket") || kind === "server") {
      of(key).buckets.set(labels.le === "+Inf" ? Infinity : Number(labels.le), number);
    }
  }
  return found;
}

// The end of the bucket in which this share of the requests since `before` are, interpolated.
function quantile(now, before, share) {
  const ends = [...now.buckets.keys()].sort((a, b) => a - b);
  const delta = ends.map((end) => now.buckets.get(end) - (before?.buckets.get(end) || 0));
  const all = delta[delta.length - 1];
  if (!all) return null;
  const wanted = all * share;
  const at = delta.findIndex((count) => count >= wanted);
  const low = at ? ends[at - 1] : 0, below = at ? delta[at - 1] : 0;
  if (ends[at] === Infinity) return low;
  return low + (ends[at] - low) * ((wanted - below) / Math.max(1, delta[at] - below));
}

function take(text) {
  const now = counts(text), at = performance.now(), seconds = (at - known.at) / 1000;
  for (const [key, entry] of now) {
    const before = known.counts?.get(key);
    let line = known.lines.get(key);
    if (!line) known.lines.set(key, (line = { rates: [], errors: [], history: [] }));
    line.history.push(entry);
    if (line.history.length > 10) line.history.shift();
    if (!before || seconds <= 0) continue;
    line.rate = Math.max(0, entry.all - before.all) / seconds;
    line.rates.push(line.rate);
    line.errors.push(Math.max(0, entry.bad - before.bad) / seconds);
    if (line.rates.length > POINTS) { line.rates.shift(); line.errors.shift(); }
    // over the last ten seconds, so that few requests do not jump about
    const first = line.history[0];
    line.share = entry.all > first.all ? (entry.bad - first.bad) / (entry.all - first.all) : 0;
    line.p50 = quantile(entry, first, 0.5);
    line.p99 = quantile(entry, first, 0.99);
  }
  for (const key of known.lines.keys()) if (!now.has(key)) known.lines.delete(key);
  known.counts = now;
  known.at = at;
}

const rate = (n) => (n === undefined ? "–" : n >= 1000 ? `${(n / 1000).toFixed(1)}k/s` : n >= 10 || n === 0 ? `${n.toFixed(0)}/s` : `${n.toFixed(1)}/s`);
const time = (s) => (s === null || s === undefined ? "–" : s < 0.001 ? `${(s * 1e6).toFixed(0)} µs` : s < 1 ? `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)} ms` : `${s.toFixed(1)} s`);
const share = (n) => (n === undefined ? "–" : n === 0 ? "0%" : n < 0.001 ? "<0.1%" : `${(n * 100).toFixed(n < 0.1 ? 1 : 0)}%`);

function numbers(key) {
  const line = known.lines.get(key) || {};
  const box = make("span", "rate");
  box.append(rate(line.rate), " ");
  const bad = make("span", line.share > 0 ? "bad" : "quiet", line.share > 0 ? `${share(line.share)} err` : "");
  box.append(bad);
  if (line.p99 != null) box.title = `p50 ${time(line.p50)}, p99 ${time(line.p99)}`;
  return box;
}

function spark(key) {
  const line = known.lines.get(key) || { rates: [], errors: [] };
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${rate(line.rate)} now`);
  const top = Math.max(1, ...line.rates);
  for (const [points, cls] of [[line.rates, ""], [line.errors, "err"]]) {
    if (points.length < 2 || (cls && !points.some(Boolean))) continue;
    const path = document.createElementNS(ns, "path");
    const x = (i) => 100 - (points.length - 1 - i) * (100 / (POINTS - 1));
    path.setAttribute("d", points.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${(19 - (v / top) * 18).toFixed(1)}`).join(""));
    if (cls) path.setAttribute("class", cls);
    svg.append(path);
  }
  return svg;
}

// ---- showing

const LOOKS = { up: "good", warming: "warn", draining: "warn", down: "bad", ejected: "bad", breaker_open: "bad" };
const WORDS = { breaker_open: "breaker open" };
const word = (state) => WORDS[state] || state;

function facts(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => {
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", String(value)));
    return row;
  }));
}

const focus = (key) => document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();

// What a click or a tab was on stays where it was, as rows are made anew.
function keepFocus(work) {
  const key = document.activeElement?.dataset?.key;
  work();
  if (key) focus(key);
}

function point(node, sort, name) {
  const on = () => light(sort, name), off = () => light();
  node.addEventListener("mouseenter", on);
  node.addEventListener("mouseleave", off);
  node.addEventListener("focusin", on);
  node.addEventListener("focusout", off);
}

// What belongs to what: the rest steps back.
let lit = null;
function light(sort, name) {
  lit = sort ? [sort, name] : null;
  const o = known.overview;
  if (!o) return;
  let listeners = null, routes = null, upstreams = null;
  if (sort) {
    const fits = (r, l) => !r.listeners.length || r.listeners.includes(l);
    const chosen = o.routes.filter((r) => (sort === "route" ? r.name === name : sort === "upstream" ? r.upstreams.includes(name) : fits(r, name) && o.listeners.find((l) => l.name === name)?.protocols.some((p) => p !== "tcp")));
    const passing = o.listeners.filter((l) => (sort === "listener" ? l.name === name : sort === "upstream" && l.passes_to.includes(name)));
    routes = new Set(chosen.map((r) => r.name));
    upstreams = new Set([...chosen.flatMap((r) => r.upstreams), ...(sort === "listener" ? passing.flatMap((l) => l.passes_to) : []), ...(sort === "upstream" ? [name] : [])]);
    listeners = new Set([...o.listeners.filter((l) => chosen.some((r) => fits(r, l.name))).map((l) => l.name), ...passing.map((l) => l.name)]);
    if (sort === "listener") listeners = new Set([name]);
  }
  for (const node of document.querySelectorAll("[data-sort]")) {
    const set = { listener: listeners, route: routes, upstream: upstreams }[node.dataset.sort];
    node.classList.toggle("dim", Boolean(set) && !set.has(node.dataset.name));
  }
}

function item(sort, name, sub, right) {
  const li = make("li", "item");
  li.dataset.sort = sort;
  li.dataset.name = name;
  const row = make("div", "row");
  row.append(make("span", "name", name), right);
  li.append(row, make("div", "sub", sub));
  point(li, sort, name);
  return li;
}

function serverRow(group, server) {
  const key = `server ${group.name} ${server.address}`, line = known.lines.get(key) || {};
  const row = make("button", "server");
  row.type = "button";
  row.dataset.key = key;
  const label = [server.address, server.priority ? `backup ${server.priority}` : "", server.weight === 1 ? "" : `×${server.weight}`].filter(Boolean).join("  ");
  row.append(
    make("span", "address", label),
    make("span", LOOKS[server.state], word(server.state)),
    make("span", "num", rate(line.rate)),
    make("span", `num ${line.share > 0 ? "bad" : "quiet"}`, share(line.share)),
    make("span", "num late", time(line.p99)),
  );
  const chart = make("span", "late");
  chart.append(spark(key));
  row.append(chart);
  for (const why of server.why) row.append(make("span", `reason ${why.state}`, reasons(why)));
  row.addEventListener("click", () => open(group.name, server.address));
  return row;
}

const reasons = (why) => `${word(why.state)}: ${why.reason}${why.left_ms === undefined ? "" : `, ${Math.ceil(why.left_ms / 1000)} s left`}`;

function groupBox(group) {
  const box = make("div", "group");
  box.dataset.sort = "upstream";
  box.dataset.name = group.name;
  const head = make("div", "row"), title = make("span");
  title.append(make("span", "name", group.name), make("span", "sub quiet", `  ${group.balance}`));
  const standing = make("span", "standing");
  const line = known.lines.get(`upstream ${group.name}`) || {};
  const all = group.servers.length, ok = group.usable === all;
  standing.append(make("span", ok ? "good" : group.usable ? "warn" : "bad", `${group.usable} of ${all} usable`));
  standing.append(make("span", "quiet", `   ${group.in_flight} in flight${group.queued ? `, ${group.queued} waiting` : ""}   p50 ${time(line.p50)}   p99 ${time(line.p99)}`));
  if (group.panics) standing.append(make("span", "bad", "   panic: health is ignored"));
  head.append(title, standing);
  const heads = make("div", "heads");
  for (const [text, cls] of [["server", ""], ["", ""], ["rate", "num"], ["errors", "num"], ["p99", "num late"], ["last minute", "late"]]) heads.append(make("span", cls, text));
  box.append(head, heads, ...group.servers.map((server) => serverRow(group, server)));
  point(box, "upstream", group.name);
  return box;
}

function show(o) {
  known.overview = o;
  const state = $("state");
  state.textContent = o.state;
  state.className = `state ${o.state === "ready" ? "good" : "warn"}`;
  const c = o.status.config, refused = o.status.last_refused;
  facts($("facts"), [["version", o.status.version], ["process", o.status.pid], ["configuration", c.hash], ["since", when(c.since)]]);
  // a click on what is made anew between press and release would be lost
  if (!known.pressed) keepFocus(() => {
    $("listeners").replaceChildren(...o.listeners.map((l) => item("listener", l.name, `${l.address}  ${[...l.protocols, l.tls ? "TLS" : ""].filter(Boolean).join(" ")}${l.passes_to.length ? ` → ${l.passes_to.join(", ")}` : ""}`, make("span", "rate", `${l.open} open`))));
    const rest = o.routes_total - o.routes.length;
    $("routes").replaceChildren(...o.routes.map((r) => item("route", r.name, [r.hosts.join(", "), r.path, ...r.conditions, "→ " + (r.upstreams.length ? r.upstreams.join(", ") : r.action)].filter(Boolean).join("  "), numbers(`route ${r.name}`))), ...(rest > 0 ? [make("li", "item quiet", `and ${rest} more`)] : []));
    $("upstreams").replaceChildren(...o.upstreams.map(groupBox));
  });
  $("refused").hidden = !refused || $("refused").dataset.mended === refused.at || Date.parse(refused.at) < Date.parse(c.since);
  if (refused) {
    $("refused-when").textContent = `${when(refused.at)}, by ${refused.by}; configuration ${c.hash} stays in use`;
    if ($("refused-why").textContent !== refused.why) $("refused-why").textContent = refused.why;
  }
  facts($("config"), [["file", c.file], ["hash", c.hash], ["since", when(c.since)], ["reloads", o.status.reloads], ["refused", o.status.refusals]]);
  if (known.server) details();
  if (lit) light(...lit);
}

const when = (text) => (text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "");

function open(group, address) {
  known.server = [group, address];
  $("server-said").textContent = "";
  details();
  $("weight").value = found()?.weight ?? 1;
  $("server").showModal();
}

const group = () => known.overview.upstreams.find((g) => g.name === known.server[0]);
const found = () => group()?.servers.find((s) => s.address === known.server[1]);

function details() {
  const server = found(), [name, address] = known.server;
  $("server-title").textContent = `${name}  ${address}`;
  if (!server) {
    facts($("server-facts"), [["state", "it is no longer there"]]);
    return;
  }
  const line = known.lines.get(`server ${name} ${address}`) || {};
  $("server-why").replaceChildren(...(server.why.length ? server.why.map((why) => make("li", LOOKS[why.state], reasons(why))) : [make("li", LOOKS[server.state], word(server.state))]));
  facts($("server-facts"), [["in flight", server.in_flight], ["rate", rate(line.rate)], ["errors", share(line.share)], ["p50", time(line.p50)], ["p99", time(line.p99)], ["weight", server.weight], ["tier", server.priority], ["zone", server.zone], ["host", server.host], ["warm", server.warmth < 100 ? `${server.warmth}%` : undefined], ["since", when(server.since)], ["last failed check", server.last_check_failure]]);
  const draining = server.why.some((why) => why.state === "draining"), ejected = server.why.some((why) => why.state === "ejected");
  $("drain").textContent = draining ? "Undrain" : "Drain";
  $("drain").dataset.call = draining ? "undrain" : "drain";
  $("eject").textContent = ejected ? "Restore" : "Eject";
  $("eject").dataset.call = ejected ? "restore" : "eject";
  $("eject").disabled = !ejected && !group().ejects;
}

async function tell(said, work) {
  said.textContent = "…";
  try {
    said.textContent = await work();
  } catch (why) {
    said.textContent = why.message;
  }
  await look();
}

function act(call, body) {
  const path = known.server.map(encodeURIComponent);
  return tell($("server-said"), async () => {
    const server = await change(`/v1/upstreams/${path[0]}/servers/${path[1]}/${call}`, body);
    return `done: ${word(server.state)}, weight ${server.weight}`;
  });
}

async function tail() {
  const answer = await ask(`/v1/errors?after=${known.failure}`);
  if (!answer.ok) return;
  const { failures } = await answer.json();
  const body = $("errors").tBodies[0];
  for (const f of failures) {
    known.failure = f.number;
    const row = make("tr");
    const cells = [[new Date(f.at).toLocaleTimeString(), "nowrap"], [f.status || "–", "bad"], [`${f.method} ${f.host}${f.path}`, ""], [f.route || "", ""], [[f.upstream, f.server].filter(Boolean).join(" "), ""], [time(f.duration_ms / 1000), "nowrap"], [f.reason, ""]];
    row.append(...cells.map(([text, cls]) => make("td", cls, String(text))));
    body.prepend(row);
  }
  while (body.rows.length > 100) body.deleteRow(-1);
  $("no-errors").hidden = body.rows.length > 0;
  $("errors").hidden = body.rows.length === 0;
}

async function look() {
  try {
    const [overview, metrics] = await Promise.all([ask("/v1/overview"), ask("/metrics")]);
    if (!overview.ok) throw new Error((await overview.json()).error);
    if (metrics.ok) take(await metrics.text());
    const o = await overview.json();
    // a new process counts from the beginning
    if (o.last_failure < known.failure) known.failure = 0;
    show(o);
    if (o.last_failure > known.failure) await tail();
  } catch (why) {
    $("state").textContent = `no answer: ${why.message}`;
    $("state").className = "state bad";
  }
}

$("server").addEventListener("close", () => {
  // told late: meanwhile they were opened anew, or that they are closed was told already
  if ($("server").open || !known.server) return;
  const [group, address] = known.server;
  known.server = null;
  // the row that it was opened from was made anew meanwhile
  focus(`server ${group} ${address}`);
});
$("drain").addEventListener("click", () => act($("drain").dataset.call));
$("eject").addEventListener("click", () => act($("eject").dataset.call));
$("set-weight").addEventListener("click", () => act("weight", JSON.stringify({ weight: Number($("weight").value) })));
$("weight").addEventListener("keydown", (event) => { if (event.key === "Enter") $("set-weight").click(); });
$("close").addEventListener("click", () => $("server").close());
$("use-token").addEventListener("click", () => $("ask-token").close("use"));
$("no-token").addEventListener("click", () => $("ask-token").close("cancel"));
$("token").addEventListener("keydown", (event) => { if (event.key === "Enter") $("use-token").click(); });
$("reload").addEventListener("click", () => tell($("said"), async () => {
  try {
    const { changes } = await change("/v1/config/reload");
    $("refused").dataset.mended = known.overview.status.last_refused?.at || "";
    return changes.length ? `reloaded:\n${changes.join("\n")}` : "nothing has changed";
  } catch (why) {
    // the report stands above
    throw new Error(why.message.includes("error[") ? "refused, with the reason above" : why.message);
  }
}));

addEventListener("pointerdown", () => { known.pressed = true; });
// the key that presses a button when it is released
addEventListener("keydown", (event) => { if (event.key === " ") known.pressed = true; });
for (const event of ["pointerup", "pointercancel", "keyup", "blur"]) addEventListener(event, () => setTimeout(() => { known.pressed = false; }));

$("errors").hidden = true;
(async () => {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((done) => setTimeout(done, PAUSE));
  }
})();
