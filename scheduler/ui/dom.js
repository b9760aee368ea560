// Elements, instants and durations. Data reaches the page only as text nodes.

/** Makes an element: `h("a", { href, class, onclick }, ...children)`; strings become text, false and null nothing. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const shown = new WeakMap();

/** Shows `build(data)` in `container`, unless it shows the same data already. The focus stays where it was. */
export function show(container, data, build) {
  const text = JSON.stringify(data);
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...[build(data)].flat(Infinity).filter(Boolean));
  if (focused) container.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  tick(container);
}

let skew = 0;

/** Takes the server's clock for the right one, where the two differ by more than the header's resolution. */
export function setServerTime(date) {
  const difference = Date.parse(date) - Date.now();
  if (Number.isFinite(difference)) skew = Math.abs(difference) > 2000 ? difference : 0;
}

const now = () => Date.now() + skew;

/** A span in words: `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d`. */
export function span(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3600), Math.floor(seconds / 86400)];
  if (hours < 1) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  if (days < 1) return `${hours} h ${minutes % 60} min`;
  return days < 3 ? `${days} d ${hours % 24} h` : `${days} d`;
}

const words = {
  // Until an instant to come.
  until(at) {
    const left = at - now();
    if (left > 0) return `in ${left < 10000 ? `${Math.ceil(left / 1000)} s` : span(left)}`;
    return left > -5000 ? "now" : `${span(-left)} late`;
  },
  since: (at) => (now() - at < 1500 ? "just now" : `${now() - at < 10000 ? `${Math.floor((now() - at) / 1000)} s` : span(now() - at)} ago`),
  // How long something that goes on has taken.
  running: (at) => (now() - at < 10000 ? `${Math.max(0, Math.floor((now() - at) / 1000))} s` : span(now() - at)),
};

/** An instant in words that keep up with the clock; the exact one is its title. */
export function when(instant, kind) {
  const at = Date.parse(instant);
  return h("time", { datetime: instant, title: new Date(at).toLocaleString(), "data-kind": kind });
}

/** An instant as a clock shows it, with the day unless that is today. */
export function exact(instant) {
  const at = new Date(instant);
  const today = at.toDateString() === new Date().toDateString();
  return h("time", { datetime: instant, title: instant }, today ? at.toLocaleTimeString() : at.toLocaleString());
}

/** Brings the words of all instants up to date. */
export function tick(root = document) {
  for (const element of root.querySelectorAll("time[data-kind]")) {
    const text = words[element.dataset.kind](Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}
