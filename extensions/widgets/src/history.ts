// The history beside the graph: every version, its branches, the way to each.
import { el, short } from "./dom";

export interface Row { number: number; parent: number | null; edit: string; current: boolean }

export interface Place {
  lane: number;
  through: number[]; // lanes that only pass
  to: number[]; // lanes of its children
}

/** Where each version stands when branches run side by side; the first branch goes straight on. */
export function lanes(rows: readonly Pick<Row, "number" | "parent">[]): Place[] {
  const places: Place[] = rows.map(() => ({ lane: 0, through: [], to: [] }));
  const at = new Map(rows.map((row, i) => [row.number, i]));
  const from = rows.map((row) => (row.parent === null ? -1 : at.get(row.parent) ?? -1));
  const first = new Map<number, number>();
  from.forEach((above, i) => above >= 0 && !first.has(above) && first.set(above, i));
  const end = rows.map((_, i) => i); // of the line that goes straight on from here
  for (let i = rows.length - 1; i >= 0; i--) if (first.has(i)) end[i] = end[first.get(i)!];
  const busy = [end[0]]; // until which row a lane is taken
  from.forEach((above, i) => {
    if (above < 0) return;
    let { lane } = places[above];
    if (first.get(above) !== i) {
      lane = busy.findIndex((until, l) => l > places[above].lane && until <= above);
      if (lane < 0) lane = busy.length;
      busy[lane] = end[i];
    }
    places[i].lane = lane;
    places[above].to.push(lane);
    for (let r = above + 1; r < i; r++) places[r].through.push(lane);
  });
  return places;
}

const STEP = 12;
const HIGH = 26;

function drawn(place: Place, root: boolean, current: boolean): SVGElement {
  const x = (lane: number) => 9 + STEP * Math.min(lane, 9);
  const width = x(Math.max(place.lane, ...place.through, ...place.to)) + 8;
  const make = (tag: string, attributes: Record<string, string | number>) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    return made;
  };
  const svg = make("svg", { width, height: HIGH, "aria-hidden": "true" });
  const line = (d: string) => svg.append(make("path", { d, fill: "none", stroke: "var(--muted)", "stroke-width": 1.5 }));
  for (const lane of place.through) line(`M${x(lane)} 0V${HIGH}`);
  if (!root) line(`M${x(place.lane)} 0V${HIGH / 2}`);
  for (const lane of place.to)
    line(`M${x(place.lane)} ${HIGH / 2}C${x(place.lane)} ${HIGH} ${x(lane)} ${HIGH / 2} ${x(lane)} ${HIGH}`);
  svg.append(make("circle", { cx: x(place.lane), cy: HIGH / 2, r: current ? 5 : 4, fill: current ? "var(--accent)" : "var(--surface)", stroke: current ? "var(--accent)" : "var(--muted)", "stroke-width": 1.5 }));
  return svg as SVGElement;
}

const MOST = 400;

export interface HistoryActs { undo(): void; redo(): void; goto(number: number): void; copy(): void; close(): void }

/** Fills the pane; the focus stays on the row that it was on. */
export function history(root: HTMLElement, rows: Row[], past: number, acts: HistoryActs) {
  const held = (root.contains(document.activeElement) && (document.activeElement as HTMLElement).dataset.key) || "";
  const places = lanes(rows);
  const now = rows.find((row) => row.current)!;
  const button = (key: string, label: string, title: string, off: boolean, act: () => void) => el("button", { "data-key": key, title, disabled: off, click: act }, label);
  const list = el("ol", { "aria-label": "Versions" }, ...rows.map((row, i) => el("li", {},
    el("button", {
      class: row.current ? "version now" : "version", "data-key": `v${row.number}`, title: short(row.edit, 600) || "As it was loaded",
      ...(row.current ? { "aria-current": "true" } : {}), click: () => acts.goto(row.number),
    }, drawn(places[i], row.parent === null, row.current), el("bdi", {}, short(row.edit.replace(/^m = m\./, ""), 160) || "as it was loaded")))).slice(-MOST));
  root.replaceChildren(
    el("button", { class: "close", "aria-label": "Close the history", click: acts.close }, "×"), el("h3", {}, "History"),
    el("div", { class: "wbg-acts" }, button("undo", "Undo", "Undo (Ctrl+Z)", now.parent === null, acts.undo),
      button("redo", "Redo", "Redo (Ctrl+Shift+Z)", !rows.some((row) => row.parent === now.number), acts.redo),
      button("copy", "Copy as Python", "A script that makes this model from the original file", false, acts.copy)),
    past ? el("p", { class: "soft" }, `${past} edits were made before this file was saved.`) : el("span"),
    rows.length > MOST ? el("p", { class: "soft" }, `The last ${MOST} of ${rows.length} versions.`) : el("span"), list);
  const focus = held && root.querySelector<HTMLElement>(`[data-key="${held}"]:not(:disabled)`);
  if (focus) focus.focus();
  list.querySelector(".now")?.scrollIntoView({ block: "nearest" });
}
