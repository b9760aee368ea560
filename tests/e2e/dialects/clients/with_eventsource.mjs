// The EventSource of npm, unmodified, against the server of the first argument.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";

const base = process.argv[2];
const GOOD = ["accepted", "started", "succeeded"];

const start = async (job) => {
  const answer = await fetch(`${base}/v1/jobs/${job}/trigger`, { method: "POST" });
  assert.equal(answer.status, 202);
  return (await answer.json()).id;
};

/** Hears what a stream tells, until `isEnough` says so or the source gives up; answers with the codes of its errors. */
const hear = (path, last, isEnough, whenOpen) =>
  new Promise((resolve) => {
    const told = [];
    const codes = [];
    const withLast = (url, init) =>
      fetch(url, { ...init, headers: { ...(last && { "Last-Event-ID": last }), ...init.headers } });
    const source = new EventSource(base + path, { fetch: withLast });
    source.addEventListener("open", () => whenOpen?.());
    const end = () => (source.close(), resolve({ told, codes }));
    for (const kind of [...GOOD, "failed"]) {
      source.addEventListener(kind, ({ lastEventId, data }) => {
        told.push([lastEventId, kind, JSON.parse(data)]);
        if (isEnough(told)) end();
      });
    }
    source.addEventListener("error", ({ code }) => {
      codes.push(code);
      if (source.readyState === EventSource.CLOSED) end();
    });
  });

const run = await start("good");
// It comes again when the stream ends, and is told that there is nothing more.
const whole = await hear(`/v1/workRequests/${run}/stream`, undefined, () => false);
assert.deepEqual(whole.told.map(([id, kind]) => [id, kind]), GOOD.map((kind, index) => [`${index + 1}`, kind]));
assert.equal(whole.codes.at(-1), 204);

const path = "/v1/workRequests:stream?job=good";
let listening;
await new Promise((isOpen) => {
  listening = hear(path, undefined, (told) => told.filter(([, kind]) => kind === "succeeded").length === 2, isOpen);
});
const runs = [await start("good"), await start("good")];
const { told } = await listening;
assert.deepEqual(new Set(told.map(([, , data]) => data.workRequestId)), new Set(runs));
assert.equal(told.length, 6);
const rest = await hear(path, told[1][0], (again) => again.length === 4);
assert.deepEqual(rest.told, told.slice(2));
const gone = await hear(path, "999999999999", () => true);
assert.deepEqual(gone, { told: [], codes: [410] });
console.log("eventsource 4.1.1: heard runs to their ends, stopped at 204 and 410, and went on from where it was");
