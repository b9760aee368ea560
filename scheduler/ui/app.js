// The dashboard: what is shown, when it is read again, and what its buttons do.

import * as api from "./api.js";
import { h, show, span, tick, when } from "./dom.js";
import { askKey, knowsUs, listen } from "./key.js";
import { hasEnded, openRun, pill, problem, refreshRun } from "./run.js";
import { openSchedule, pause, pauseButton, refreshSchedule, timing } from "./schedule.js";

const PERIOD = 1500;
const PAGE = 50;
const FILTERS = [
  ["All", ""], ["Active", "ACCEPTED,IN_PROGRESS,CANCELING"], ["Succeeded", "SUCCEEDED"], ["Failed", "FAILED"], ["Canceled", "CANCELED"],
];

const at = (id) => document.getElementById(id);
const wanted = { status: "", job: "", limit: PAGE };

// Reading, again and again while someone looks.

let round = 0;
let timer;

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    const [ready, runs, schedules, jobs, workers, queues] = await Promise.all([
      api.readiness(), settled(api.runs(wanted)), settled(api.schedules()), settled(api.jobs()),
      settled(api.workers()), settled(api.queues()), refreshRun(), settled(refreshSchedule()),
    ]);
    if (mine !== round) return;
    connected(true);
    show(at("banner"), trouble(ready), banner);
    at("banner").hidden = at("banner").childElementCount === 0;
    if (runs) showRuns(runs);
    if (schedules) show(at("schedules"), schedules.items, (items) => items.length ? items.map(schedule) : nothing("No schedules in this namespace"));
    if (jobs) showJobs(jobs.items);
    if (workers && queues) show(at("strip"), { leader: ready.leader, workers: workers.items, queues: queues.items }, strip);
  } catch (error) {
    if (mine !== round) return;
    if (error instanceof api.Refused && error.status === 401) {
      askKey(error.message);
      return;
    }
    connected(false);
    if (!(error instanceof api.Unreachable)) console.error(error);
  }
  if (mine === round && !document.hidden) timer = setTimeout(refresh, PERIOD);
}

/** What the server refuses (its database is away, say) leaves that part of the page as it was; `/readyz` says why. */
const settled = (answer) => answer.catch((error) => {
  if (error instanceof api.Refused && error.status !== 401) return undefined;
  throw error;
});

function connected(yes) {
  at("connection").textContent = yes ? "live" : "connection lost, trying again …";
  at("connection").classList.toggle("lost", !yes);
  document.body.classList.toggle("stale", !yes);
}

// What is shown.

const nothing = (text) => h("li", { class: "nothing" }, text);

// The faults themselves say more than that there are some.
const trouble = ({ parts, faults }) => ({
  parts: parts.filter((part) => (!part.ready || part.attention) && !(part.name === "definitions" && faults.length > 0)), faults,
});

function banner({ parts, faults }) {
  return [
    ...parts.map((part) => h("p", {}, h("strong", {}, part.name), `${part.ready ? "" : " is not ready"}: ${part.detail}`)),
    faults.length > 0 && h("details", {},
      h("summary", {}, `${faults.length} ${faults.length === 1 ? "fault" : "faults"} in the schedule files; the last good definitions stay in force`),
      faults.map((fault) => h("pre", {}, fault))),
  ];
}

function leads({ leading, generation, lastDecision }) {
  if (generation === undefined) return h("span", { class: "tile bad" }, "no scheduler leads");
  return h("span", { class: "tile", title: "The scheduler that decides due times" }, h("b", {}, leading ? "this scheduler leads" : "another scheduler leads"),
    ` as generation ${generation}`, lastDecision && [" · decided ", when(lastDecision, "since")]);
}

function strip({ leader, workers, queues }) {
  const live = workers.filter((worker) => worker.live);
  const gone = workers.filter((worker) => !worker.live && worker.running > 0);
  return [
    leader && leads(leader),
    live.length === 0 && h("span", { class: "tile bad" }, "no worker is alive"),
    ...live.filter((worker) => worker.kind === "external").map((worker) => h("span", { class: "tile", title: `external, claimed from ${worker.queues.join(", ")}` },
      h("b", {}, worker.name), ` ${worker.running} running`)),
    ...live.filter((worker) => worker.kind !== "external").map((worker) => h("span", { class: "tile", title: `${worker.version}, consumes ${worker.queues.join(", ")}` },
      h("b", {}, worker.name), " ", h("meter", { max: String(worker.slots), value: String(worker.running), "aria-label": "slots in use" }),
      ` ${worker.running}/${worker.slots}`)),
    ...gone.map((worker) => h("span", { class: "tile bad" }, `${worker.name} is gone and had ${worker.running} runs`)),
    ...queues.map((queue) => h("span", { class: queue.workers === 0 && queue.sent > 0 ? "tile bad" : "tile", title: `${queue.workers} workers` },
      h("b", {}, queue.name), ` ${queue.held + queue.due + queue.sent} waiting · ${queue.leased} running`, queue.parked > 0 && ` · ${queue.parked} elsewhere`, queue.workers === 0 && " · no worker")),
  ];
}

function schedule(item) {
  return h("li", { class: "card" },
    h("a", { class: "name", href: `#/schedules/${encodeURIComponent(item.name)}`, "data-key": item.name }, item.name),
    h("div", { class: "next" }, item.nextDue ? when(item.nextDue, "until") : item.paused ? "" : "never again"),
    h("div", { class: "dim beside" }, h("code", {}, timing(item)), item.cron && ` ${item.timezone}`, " → ", item.trigger.join(", ")),
    pauseButton(item, scheduleActions),
    item.paused && h("div", { class: "dim" }, pause(item)),
    item.description && h("div", { class: "dim about" }, item.description));
}

function showJobs(jobs) {
  show(at("jobs"), jobs, () => jobs.length ? jobs.map(job) : nothing("No jobs in this namespace"));
  const names = jobs.map((item) => item.name);
  show(at("by-job"), names, () => [h("option", { value: "" }, "all jobs"), ...names.map((name) => h("option", { value: name }, name))]);
  at("by-job").value = names.includes(wanted.job) ? wanted.job : "";
}

function job(item) {
  const { handler } = item;
  const does = { command: () => handler.argv.join(" "), ssh: () => `${handler.user}@${handler.host}: ${handler.argv.join(" ")}`, http: () => `${handler.method} ${handler.url}`, function: () => `fn ${handler.name}` }[handler.type];
  return h("li", { class: "card" },
    h("div", { class: "name" }, item.name),
    h("button", { type: "button", class: "small", "data-key": item.name, "aria-label": `Trigger ${item.name}`, onclick: () => askTrigger(item) }, "Trigger"),
    h("div", { class: "dim one-line", title: does?.() }, h("code", {}, does?.() ?? handler.type)),
    item.description && h("div", { class: "dim about" }, item.description));
}

function showRuns({ items, nextPage }) {
  show(at("runs"), items, () => items.length ? items.map(row) : nothing(wanted.status || wanted.job ? "No such runs" : "No runs yet: trigger a job, or wait for a schedule"));
  at("more").hidden = !nextPage || wanted.limit >= 1000;
}

/** What a run waits for; how long it is until an instant to come keeps up with the clock. */
function waits(text) {
  const [, what, at] = text.match(/^(.*\bdue) at (\S+Z)$/) ?? [];
  return at ? [`${what} `, when(at, "until")] : text.replace(/ since \S+Z/, "");
}

function row(run) {
  const took = run.timeFinished && run.timeStarted
    ? span(Date.parse(run.timeFinished) - Date.parse(run.timeStarted))
    : run.timeStarted && !hasEnded(run) ? when(run.timeStarted, "running") : "";
  const error = problem(run);
  const says = error?.message ?? (run.waitingFor ? waits(run.waitingFor) : run.message ?? "");
  return h("li", { class: "row" },
    h("a", { href: `#/runs/${run.id}`, "data-key": run.id, class: "open" },
      pill(run.status),
      h("span", { class: "job" }, run.job, h("span", { class: "dim" }, ` ${run.schedule ?? (run.parent ? "child of another run" : run.chainedFrom ? "after another run" : "by hand")}`)),
      h("span", { class: error ? "says failed" : "says dim", title: error?.message ?? run.waitingFor ?? run.message ?? "" },
        run.status === "IN_PROGRESS" && run.percentComplete > 0
          ? h("progress", { max: "100", value: String(run.percentComplete), "aria-label": "Progress" }) : says),
      h("span", { class: "took" }, took),
      h("span", { class: "dim ago" }, when(run.timeAccepted, "since"))),
    hasEnded(run) || run.status === "CANCELING" ? null : h("button", {
      type: "button", class: "small quiet", "data-key": `cancel ${run.id}`, "aria-label": `Cancel this run of ${run.job}`, onclick: () => cancel(run),
    }, "Cancel"));
}

function showFilters() {
  show(at("statuses"), wanted.status, () => FILTERS.map(([name, status]) => h("button", {
    type: "button", class: "chip", "data-key": name, "aria-pressed": String(status === wanted.status),
    onclick: () => look({ status, limit: PAGE }),
  }, name)));
}

function look(change) {
  Object.assign(wanted, change);
  showFilters();
  refresh();
}

// What buttons do.

let toastTimer;

function toast(...content) {
  at("toast").replaceChildren(...content);
  at("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { at("toast").hidden = true; }, 6000);
}

const cancel = (run) => askNote(`Cancel this run of ${run.job}`, "What runs is asked to stop; what waits ends at once.", (note) => api.cancel(run.id, note));

const scheduleActions = {
  pause: (item) => askNote(`Pause ${item.name}`, "Nothing is due until it is resumed; what is due meanwhile is skipped.", (note) => api.pause(item.name, note)),
  resume: (item) => askNote(`Resume ${item.name}`, "It is due again from now on.", (note) => api.resume(item.name, note)),
  fire: (item) => askNote(`Run ${item.name} now`, `Beside its due times: ${item.trigger.join(", ")}.`, (note) => api.fire(item.name, note)),
  cancelBackfill: (name, item) => askNote(`Cancel backfill ${item.id}`, "Its runs are canceled with it.", (note) => api.cancelBackfill(name, item.id, note)),
};

let sendNote = null;

/** Asks who wants it and why, and then does it. */
function askNote(title, about, send) {
  sendNote = send;
  at("note-title").textContent = title;
  at("note-about").textContent = about;
  at("note-by").value = localStorage.getItem("by") ?? "";
  at("note-reason").value = "";
  at("note-problem").hidden = true;
  at("note").showModal();
  at("note-reason").focus();
}

async function submitNote(event) {
  event.preventDefault();
  const [by, reason] = [at("note-by").value.trim(), at("note-reason").value.trim()];
  localStorage.setItem("by", by);
  try {
    await sendNote({ by: by || "dashboard", ...(reason && { reason }) });
    at("note").close();
    refresh();
  } catch (error) {
    at("note-problem").textContent = error.message;
    at("note-problem").hidden = false;
  }
}

let asked = null; // { job, key }: one key for each opening, so that a second click or a retry is the same run

function askTrigger(item) {
  asked = { job: item.name, key: crypto.randomUUID() };
  at("trigger-title").textContent = `Trigger ${item.name}`;
  at("trigger-about").textContent = item.description ?? "";
  at("trigger-problem").hidden = true;
  at("trigger").showModal();
  at("trigger").querySelector("[type=submit]").focus();
}

async function sendTrigger(event) {
  event.preventDefault();
  try {
    const [input, delay] = [at("trigger-input").value.trim(), at("trigger-delay").value.trim()];
    const body = { ...(input && { input: JSON.parse(input) }), ...(delay && { delay }) };
    const run = await api.trigger(asked.job, body, asked.key);
    at("trigger").close();
    toast(`${run.job} is triggered. `, h("a", { href: `#/runs/${run.id}` }, "Look at the run"));
    refresh();
  } catch (error) {
    // A refused request has taken no key, but one that was answered has: change the key with the request.
    if (error instanceof api.Refused) asked.key = crypto.randomUUID();
    at("trigger-problem").textContent = error instanceof SyntaxError ? `The input is not JSON: ${error.message}` : error.message;
    at("trigger-problem").hidden = false;
  }
}

// Where we are: `#/runs/ID` is a run, `#/schedules/NAME` a schedule, anything else the overview.

function route() {
  const [, kind, name] = location.hash.match(/^#\/(runs|schedules)\/([^/]+)$/) ?? [];
  openRun(kind === "runs" ? decodeURIComponent(name) : undefined, cancel);
  openSchedule(kind === "schedules" ? decodeURIComponent(name) : undefined, scheduleActions);
  document.body.classList.toggle("with-run", Boolean(kind));
  refresh();
}

/** Looks around as whoever is calling; nothing is read until somebody may call. */
async function enter() {
  try {
    const me = await knowsUs();
    if (!me) return;
    const namespace = at("namespace");
    if (me.namespaces && !me.namespaces.includes(namespace.value)) {
      namespace.value = me.namespaces[0];
      api.setNamespace(namespace.value);
    }
    route();
  } catch (error) {
    connected(false);
    setTimeout(enter, PERIOD);
  }
}

function start() {
  const namespace = at("namespace");
  namespace.value = localStorage.getItem("namespace") ?? "default";
  api.setNamespace(namespace.value);
  namespace.addEventListener("change", () => {
    if (!namespace.value) namespace.value = "default";
    if (!namespace.reportValidity()) return;
    localStorage.setItem("namespace", namespace.value);
    api.setNamespace(namespace.value);
    look({ job: "", status: "", limit: PAGE });
  });
  at("by-job").addEventListener("change", (event) => look({ job: event.target.value, limit: PAGE }));
  at("more").addEventListener("click", () => look({ limit: Math.min(1000, wanted.limit + PAGE) }));
  at("trigger").querySelector("form").addEventListener("submit", sendTrigger);
  at("trigger-close").addEventListener("click", () => at("trigger").close());
  at("note").querySelector("form").addEventListener("submit", submitNote);
  at("note-close").addEventListener("click", () => at("note").close());
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]") && document.body.classList.contains("with-run")) location.hash = "#/";
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  setInterval(() => { if (!document.hidden) tick(); }, 500);
  showFilters();
  listen(enter);
  enter();
}

start();
