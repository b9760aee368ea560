// One run: its facts, history, input, output and log.

import * as api from "./api.js";
import { exact, h, show, span, when } from "./dom.js";

const panel = document.getElementById("run");
const MOST_LINES = 2000;
const MOST_CHILDREN = 50;
const ENDED = ["SUCCEEDED", "FAILED", "CANCELED"];

export const hasEnded = (run) => ENDED.includes(run.status);

/** What went wrong with a run, at last or so far; a cancel is no fault. */
export const problem = (run) => run.status === "FAILED" ? run.error : run.lastError;

/** A status as a coloured word. */
export const pill = (status) => h("span", { class: `pill ${status.toLowerCase()}` }, status.toLowerCase().replace("_", " "));

let open = null; // { id, parts, log: { page, lines }, final }

/** Opens the panel for a run, or closes it. */
export function openRun(id, onCancel) {
  if (open?.id === id) return;
  open = null;
  panel.hidden = !id;
  panel.replaceChildren();
  if (!id) return;
  const part = (tag, properties) => h(tag, properties);
  const parts = {
    head: part("header"), facts: part("dl", { class: "facts" }), failure: part("div"), data: part("div"), children: part("div"),
    events: part("ol", { class: "events" }), log: part("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Log" }),
  };
  open = { id, onCancel, parts, log: { page: "", before: [], last: [] }, final: false };
  panel.append(
    parts.head, parts.failure, parts.facts, parts.children,
    h("h3", {}, "History"), parts.events,
    parts.data, h("h3", {}, "Log"), parts.log,
  );
  panel.focus({ preventScroll: true });
}

/** Brings the panel up to date; what has ended does not change any more. */
export async function refreshRun() {
  const view = open;
  if (!view || view.final) return;
  let run;
  try {
    run = await api.getRun(view.id);
  } catch (error) {
    if (!(error instanceof api.Refused) || view !== open) throw error;
    show(view.parts.head, error.message, (message) => [title("No such run"), h("p", { class: "problem" }, message)]);
    view.final = true;
    return;
  }
  const [events, output, children] = await Promise.all([
    api.events(view.id),
    run.status === "SUCCEEDED" ? api.result(view.id) : undefined,
    run.children ? api.children(view.id, MOST_CHILDREN) : undefined,
    readLog(view),
  ]);
  if (view !== open) return;
  show(view.parts.head, [run.job, run.status], () => head(run, view.onCancel));
  show(view.parts.facts, run, facts);
  show(view.parts.failure, problem(run) ?? null, (error) => error && failure(run, error));
  show(view.parts.children, children?.items ?? null, (items) => items && [
    h("h3", {}, items.length < run.children.total ? `The last ${items.length} children` : "Children"),
    h("ol", { class: "children" }, items.map(child)),
  ]);
  show(view.parts.events, events.items, (items) => items.map(entry));
  show(view.parts.data, [run.input ?? null, run.resource ?? null, output ?? null], ([input, resource, result]) => [
    input !== null && json("Input", input),
    resource !== null && json("Resource", resource),
    result !== null && json("Output", result),
  ]);
  showLog(view);
  view.final = hasEnded(run);
}

const title = (text) => [
  h("a", { href: "#/", class: "close", "aria-label": "Close", "data-key": "close" }, "×"),
  h("h2", { id: "run-title" }, text),
];

function head(run, onCancel) {
  const cancel = h("button", { type: "button", class: "danger", "data-key": "cancel", onclick: () => onCancel(run) }, "Cancel");
  return [...title(run.job), h("div", { class: "state" }, pill(run.status), !hasEnded(run) && run.status !== "CANCELING" && cancel)];
}

function facts(run) {
  const rows = [
    ["Id", h("code", {}, run.id)],
    ["Called by", calledBy(run)],
    ["Queue", run.queue],
    ["Accepted", exact(run.timeAccepted)],
    ["Waits", run.waitingFor],
    ["Started", run.timeStarted && exact(run.timeStarted)],
    ["Took", run.timeStarted && (run.timeFinished ? span(Date.parse(run.timeFinished) - Date.parse(run.timeStarted)) : when(run.timeStarted, "running"))],
    ["Attempt", run.attempt > 1 && String(run.attempt)],
    ["Children", run.children && childrenOf(run.children)],
    ["Retry of", run.retryOf && h("a", { href: `#/runs/${run.retryOf}` }, "an earlier run")],
    ["Progress", !hasEnded(run) && run.percentComplete > 0 && [
      h("progress", { max: "100", value: String(run.percentComplete) }), ` ${Math.round(run.percentComplete)} %`]],
    ["Says", run.message],
  ];
  return rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

// `10: 7 succeeded, 1 failed, 2 waiting`, without those that there are none of.
function childrenOf(children) {
  const words = { succeeded: "succeeded", failed: "failed", canceled: "canceled", underWay: "under way", waiting: "waiting" };
  const counts = Object.entries(words).filter(([name]) => children[name] > 0).map(([name, word]) => `${children[name]} ${word}`);
  return `${children.total} of ${children.job}: ${counts.join(", ")}`;
}

function calledBy(run) {
  if (run.parent) return [h("a", { href: `#/runs/${run.parent}` }, "its parent"), ", as one of its children"];
  if (run.chainedFrom) return ["the end of ", h("a", { href: `#/runs/${run.chainedFrom}` }, "another run")];
  if (!run.schedule) return "hand";
  const schedule = h("a", { href: `#/schedules/${encodeURIComponent(run.schedule)}` }, run.schedule);
  if (run.origin === "manual") return [schedule, ", by hand"];
  return [schedule, ", due ", exact(run.scheduledFor), run.origin?.startsWith("backfill:") && `, ${run.origin.replace(":", " ")}`];
}

const failure = (run, error) => h("div", { class: "problem" },
  h("strong", {}, run.status === "FAILED" ? error.code : `Last attempt: ${error.code}`), h("p", {}, error.message));

const child = (run) => h("li", {},
  pill(run.status), " ", h("a", { href: `#/runs/${run.id}`, "data-key": run.id }, JSON.stringify(run.input ?? null)),
  problem(run) && h("span", { class: "dim" }, ` ${problem(run).message}`));

const entry = (event) => h("li", { class: event.type }, exact(event.timestamp), h("span", {}, event.message));

const json = (name, value) => [h("h3", {}, name), h("pre", {}, JSON.stringify(value, null, 2))];

// Pages that are full never change; the last one is read again until the run has ended.
async function readLog(view) {
  for (;;) {
    const { items, nextPage } = await api.logs(view.id, view.log.page);
    view.log.last = items;
    if (!nextPage) return;
    view.log.before = [...view.log.before, ...items].slice(-MOST_LINES);
    view.log.last = [];
    view.log.page = nextPage;
  }
}

function showLog(view) {
  const lines = [...view.log.before, ...view.log.last].slice(-MOST_LINES);
  const box = view.parts.log;
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 30;
  const several = new Set(lines.map((line) => line.attempt)).size > 1;
  show(box, lines, () => lines.length ? lines.map((line) => h("div", { class: line.stream, title: line.timestamp },
    several && h("span", { class: "attempt" }, `${line.attempt} `), line.message || " ")) : h("div", { class: "dim" }, "nothing printed"));
  if (atEnd) box.scrollTop = box.scrollHeight;
}
