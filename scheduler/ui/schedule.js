// One schedule: whether it is paused, what became of its due times and why, its backfills, and who changed it.

import * as api from "./api.js";
import { exact, h, show, when } from "./dom.js";

const panel = document.getElementById("schedule");
const FIRES = 20;

let open = null; // { name, actions, parts, asked }

/** When a schedule is due, in a few words. */
export const timing = (item) => item.cron ?? (item.every ? `every ${item.every}` : "once");

/** Since when, by whom and why a schedule is paused. */
export const pause = ({ paused }) => [
  h("span", { class: "pill paused" }, "paused"), ` by ${paused.by} `, when(paused.since, "since"), paused.reason && `: ${paused.reason}`,
];

/** The button that pauses a schedule, or resumes it. */
export const pauseButton = (item, { pause, resume }) => item.paused
  ? h("button", { type: "button", class: "small", "data-key": `resume ${item.name}`, "aria-label": `Resume ${item.name}`, onclick: () => resume(item) }, "Resume")
  : h("button", { type: "button", class: "small quiet", "data-key": `pause ${item.name}`, "aria-label": `Pause ${item.name}`, onclick: () => pause(item) }, "Pause");

/** Opens the panel for a schedule, or closes it. */
export function openSchedule(name, actions) {
  if (open?.name === name) return;
  open = null;
  panel.hidden = !name;
  panel.replaceChildren();
  if (!name) return;
  const parts = {
    head: h("header"), pause: h("div"), facts: h("dl", { class: "facts" }), answer: h("div", { "aria-live": "polite" }),
    fires: h("ol", { class: "fires" }), backfills: h("div"), history: h("ol", { class: "events" }),
  };
  open = { name, actions, parts, asked: null };
  panel.append(
    parts.head, parts.pause, parts.facts,
    h("h3", {}, "Why did it run, or not?"), question(), parts.answer,
    parts.backfills, h("h3", {}, "Due times"), parts.fires,
    h("h3", {}, "History"), parts.history,
  );
  panel.focus({ preventScroll: true });
}

/** Brings the panel up to date. */
export async function refreshSchedule() {
  const view = open;
  if (!view) return;
  const { name, parts } = view;
  let item;
  try {
    item = await api.schedule(name);
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    if (view === open) show(parts.head, error.message, (message) => [title("No such schedule"), h("p", { class: "problem" }, message)]);
    return;
  }
  const [fires, backfills, history] = await Promise.all([api.fires(name, FIRES), api.backfills(name), api.history(name)]);
  if (view !== open) return;
  show(parts.head, [name, Boolean(item.paused)], () => head(item, view.actions));
  show(parts.pause, item.paused ?? null, () => item.paused && h("p", { class: "problem" }, pause(item)));
  show(parts.facts, item, facts);
  show(parts.fires, fires.items, (items) => items.length ? items.map(fire) : h("li", { class: "dim" }, "nothing decided yet"));
  show(parts.backfills, backfills.items, (items) => items.length > 0 && [h("h3", {}, "Backfills"), items.map((one) => backfill(one, view))]);
  show(parts.history, history.items, (items) => items.map(change));
}

const title = (text) => [
  h("a", { href: "#/", class: "close", "aria-label": "Close", "data-key": "close" }, "×"),
  h("h2", { id: "schedule-title" }, text),
];

function head(item, actions) {
  return [...title(item.name), h("div", { class: "state" },
    pauseButton(item, actions),
    h("button", { type: "button", class: "small", "data-key": "fire", onclick: () => actions.fire(item) }, "Run now"))];
}

function facts(item) {
  const list = (items) => items?.join(", ");
  const rows = [
    ["Due", [h("code", {}, timing(item)), item.cron && ` ${item.timezone}`, item.jitter && `, spread over ${item.jitter}`]],
    ["Next", item.nextDue ? [exact(item.nextDue), " · ", when(item.nextDue, "until")] : item.paused ? "when it is resumed" : "never again"],
    ["Runs", list(item.trigger)],
    ["About", item.description],
    ["Except", list(item.except)],
    ["Only", list(item.only)],
    ["From", item.startsAt && exact(item.startsAt)],
    ["Until", item.endsAt && exact(item.endsAt)],
    ["Fires", item.maxFires && `${item.fired} of ${item.maxFires}`],
    ["Overlap", item.overlap.replaceAll("_", " ")],
    ["Missed", `${item.catchUp.policy}, within ${item.catchUp.window}`],
    ["Failures", item.failuresInARow && `${item.failuresInARow} in a row${item.pauseAfterFailures ? `; paused after ${item.pauseAfterFailures}` : ""}`],
  ];
  return rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

function question() {
  const at = h("input", { type: "datetime-local", step: "1", "aria-label": "Instant, by your clock; empty is now" });
  return h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); explain(at.value ? new Date(at.value).toISOString() : undefined); } },
    at, h("button", { type: "submit", class: "small" }, "Explain"));
}

async function explain(at) {
  const view = open;
  let answer;
  try {
    answer = await api.explain(view.name, at);
  } catch (error) {
    answer = { verdict: "no answer", explanation: error.message };
  }
  if (view !== open) return;
  view.parts.answer.replaceChildren(h("p", { class: "answer" }, verdict(answer.verdict), " ", linked(answer.explanation)));
}

const verdict = (word) => h("span", { class: `pill ${word}` }, word.replaceAll("_", " "));

/** A text whose ids of work requests lead to them. */
const linked = (words) => words.split(/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/).map((part, index) =>
  index % 2 ? h("a", { href: `#/runs/${part}`, title: part }, `${part.slice(0, 8)}…`) : part);

function fire(item) {
  return h("li", {},
    h("button", { type: "button", class: "due", "data-key": `${item.dueAt} ${item.origin}`, title: "Explain", onclick: () => explain(item.dueAt) },
      exact(item.dueAt), item.count > 1 && ` × ${item.count}`),
    verdict(item.outcome),
    h("span", {}, linked(item.explanation), item.workRequests.map((id, index) => [" ",
      h("a", { href: `#/runs/${id}`, "data-key": id }, item.workRequests.length > 1 ? `run ${index + 1}` : "run")])));
}

function backfill(item, view) {
  const { actions } = view;
  return h("div", { class: "backfill" },
    h("div", {}, h("b", {}, item.id), " ", verdict(item.status), h("span", { class: "dim" }, ` by ${item.by}${item.reason ? `: ${item.reason}` : ""}`)),
    h("div", {}, h("progress", { max: "100", value: String(item.percentComplete), "aria-label": "Progress" }),
      ` ${item.percentComplete} % of ${item.total} · ${item.triggered} triggered, ${item.skipped} skipped, ${item.unended} running`),
    h("div", { class: "dim" }, exact(item.from), " to ", exact(item.to)),
    item.status === "running" && h("button", { type: "button", class: "danger", "data-key": `cancel ${item.id}`, onclick: () => actions.cancelBackfill(view.name, item) }, "Cancel"));
}

function change(item) {
  const changes = item.changes.map(({ member, from, to }) => `${member} ${text(from)} → ${text(to)}`).join(", ");
  return h("li", { class: item.action }, exact(item.timestamp),
    h("span", {}, `${item.action} by ${item.by}`, item.reason && `: ${item.reason}`, changes && h("div", { class: "dim" }, changes)));
}

const text = (value) => value === undefined ? "none" : typeof value === "string" ? value : JSON.stringify(value);
