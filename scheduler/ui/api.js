// The public API of this service, and nothing else.

import { setServerTime } from "./dom.js";

const TIME_LIMIT = 10_000;

/** The server can't be reached. */
export class Unreachable extends Error {}

/** The server has refused a request, with its own words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.message ?? `the server answered ${status}`);
    this.status = status;
  }
}

let namespace = "default";
let key = sessionStorage.getItem("key") ?? "";

/** Whether there is a key to call with. */
export const hasKey = () => key !== "";

/** The key of all further requests; kept for as long as the tab is open. */
export function setKey(text) {
  key = text;
  if (text) sessionStorage.setItem("key", text);
  else sessionStorage.removeItem("key");
}

/** Whose jobs, schedules and runs all further requests are about. */
export function setNamespace(name) {
  namespace = name;
}

async function request(method, path, { headers = {}, body } = {}) {
  let response;
  let json;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { "X-Reveille-Namespace": namespace, ...(key && { "X-API-Key": key }), ...headers },
      cache: "no-store",
      signal: AbortSignal.timeout(TIME_LIMIT),
    });
    json = await response.json();
  } catch (cause) {
    throw new Unreachable("the server does not answer", { cause });
  }
  setServerTime(response.headers.get("date"));
  return { ok: response.ok, status: response.status, json };
}

async function accepted(method, path, options) {
  const { ok, status, json } = await request(method, path, options);
  if (!ok) throw new Refused(status, json);
  return json;
}

const get = (path) => accepted("GET", path);
const named = encodeURIComponent;
const run = (id) => `/v1/workRequests/${named(id)}`;

export const children = (parent, limit) => get(`/v1/workRequests?parent=${named(parent)}&limit=${limit}`);
export const jobs = () => get("/v1/jobs?limit=500");
const at = (schedule) => `/v1/schedules/${named(schedule)}`;
const post = (path, body) => accepted("POST", path, { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const schedule = (name) => get(at(name));
export const fires = (name, limit) => get(`${at(name)}/fires?limit=${limit}`);
export const backfills = (name) => get(`${at(name)}/backfills?limit=50`);
export const history = (name) => get(`${at(name)}/history?limit=20`);
export const explain = (name, instant) => get(`${at(name)}/explain${instant ? `?at=${encodeURIComponent(instant)}` : ""}`);
export const pause = (name, note) => post(`${at(name)}:pause`, note);
export const resume = (name, note) => post(`${at(name)}:resume`, note);
export const fire = (name, note) => post(`${at(name)}:trigger`, note);
export const cancelBackfill = (name, id, note) => accepted("DELETE", `${at(name)}/backfills/${named(id)}?${new URLSearchParams(note)}`);

/** Who is calling, and what they may do. */
export const whoami = () => get("/v1/whoami");
export const schedules = () => get("/v1/schedules?limit=500");
export const workers = () => get("/v1/workers");
export const queues = () => get("/v1/queues");
/** What `/readyz` says, be it yes or no. */
export const readiness = async () => (await request("GET", "/readyz")).json;

export function runs({ status, job, limit }) {
  const query = new URLSearchParams({ limit });
  if (status) query.set("status", status);
  if (job) query.set("job", job);
  return get(`/v1/workRequests?${query}`);
}

export const getRun = (id) => get(run(id));
export const events = (id) => get(`${run(id)}/events?limit=1000`);
export const logs = (id, page) => get(`${run(id)}/logs?limit=1000${page ? `&page=${page}` : ""}`);
export const result = (id) => get(`${run(id)}/result`);
export const cancel = (id, note) => accepted("DELETE", `${run(id)}?${new URLSearchParams(note)}`);

/** Triggers a job; `key` makes it safe to ask twice. */
export function trigger(job, body, key) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  return accepted("POST", `/v1/jobs/${named(job)}/trigger`, { headers, body: JSON.stringify(body) });
}
