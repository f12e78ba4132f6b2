// Colours of items for an overlay, and its legend.
import { FAMILIES, familyColor, familyOf, LIST, ramp, type Theme } from "./colors";
import type { Data } from "./data";
import { byteCount, count, el, number } from "./dom";
import type { OverlayHeader, State } from "./host";
import { GROUP, NODE, type Scene } from "./scene";

export interface Coloring {
  color(item: number): string;
  legend(scene: Scene): HTMLElement;
  /** what the overlay says of a node, for the hover card and the inspector */
  words(node: number): string;
  /** nodes to step through: the highest value first, or what differs, from top to bottom */
  targets?: () => number[];
  /** sign before an item's label, so that colour is not all that tells */
  mark?: (item: number) => string;
}

export const OVERLAYS: [string, string][] = [
  ["op", "Operator"], ["dtype", "Data type"], ["macs", "MACs"], ["bytes", "Bytes moved"], ["origin", "Origin"],
];

export function coloring(data: Data, scene: Scene, state: State, theme: Theme): Coloring {
  if (state.overlay === "values" && state.values) {
    const { header, numbers } = state.values;
    if (header.categories) return marked(scene, theme, numbers, header);
    return numeric(scene, theme, numbers, header.title, header.unit, header.scale, header.note);
  }
  if (state.overlay === "macs" && data.macs) return numeric(scene, theme, amounts(data.macs), "MACs", "", "log", "");
  if (state.overlay === "bytes" && data.bytes) return numeric(scene, theme, amounts(data.bytes), "Bytes moved", "B", "log", "");
  if (state.overlay === "dtype") return byType(data, scene, theme);
  if (state.overlay === "origin" && data.made) return byOrigin(data, scene, theme);
  return byOperator(data, scene, theme);
}

/** Amounts, of which 0 is none. */
const amounts = (numbers: Float64Array) => numbers.map((v) => v || NaN);

function most(list: string[]): string {
  const counts = new Map<string, number>();
  for (const entry of list) counts.set(entry, (counts.get(entry) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
}

function categories(
  scene: Scene, theme: Theme, title: string, of: (node: number) => string, color: (name: string) => string,
): Coloring {
  const colors = scene.kind.map((kind, i) =>
    kind === NODE ? color(of(scene.ref[i])) : kind === GROUP ? color(most(scene.nodesOf(i).slice(0, 200).map(of))) : theme.missing);
  return {
    color: (i) => colors[i], words: () => "",
    legend: () => {
      const present = new Set<string>();
      for (let n = 0; n < scene.data.nodes; n++) present.add(of(n));
      const names = [...FAMILIES.map(([name]) => name).filter((name) => present.has(name)), ...[...present].sort()];
      const keys = [...new Set(names)].map((name) =>
        el("span", {}, el("i", { style: `background:${color(name)}` }), name || "unknown"));
      return el("div", {}, el("h4", {}, title), el("div", { class: "keys" }, ...keys));
    },
  };
}

const byOperator = (data: Data, scene: Scene, theme: Theme) =>
  categories(scene, theme, "Operator", (n) => familyOf(data.opName(n)), familyColor);

function byType(data: Data, scene: Scene, theme: Theme): Coloring {
  const of = (n: number) => (data.outputs(n).length && data.outputs(n)[0] >= 0 ? data.dtypeOf(data.outputs(n)[0]) : "");
  const known = ["float32", "float16", "bfloat16", "int8", "uint8", "int64", "int32", "bool"];
  const extra = data.head.dtypes.filter((name) => name && !known.includes(name));
  const color = (name: string) => (name ? LIST[[...known, ...extra].indexOf(name) % LIST.length] : theme.missing);
  return categories(scene, theme, "Data type of the first output", of, color);
}

function byOrigin(data: Data, scene: Scene, theme: Theme): Coloring {
  const rows = data.head.made!;
  const of = (n: number) => rows[data.made![n]] || "as in the file";
  const color = (name: string) => (rows.includes(name) ? LIST[(rows.indexOf(name) + LIST.length - 1) % LIST.length] : theme.missing);
  return {
    ...categories(scene, theme, "Origin", of, color), words: of,
    targets: () => downwards(scene, (n) => data.made![n] > 0),
  };
}

/** Nodes of a kind from top to bottom. */
function downwards(scene: Scene, wanted: (node: number) => boolean): number[] {
  const y = (n: number) => (scene.itemOf[n] < 0 ? Infinity : scene.y[scene.itemOf[n]]);
  return Array.from({ length: scene.data.nodes }, (_, n) => n).filter(wanted).sort((a, b) => y(a) - y(b) || a - b);
}

/** Categories that Python names, each with a sign; the first of them that a folded module has is shown for it. */
function marked(scene: Scene, theme: Theme, numbers: Float64Array, header: OverlayHeader): Coloring {
  const rows = header.categories!;
  const counts = rows.map((_, k) => numbers.reduce((sum, v) => sum + Number(v === k), 0));
  const first = scene.kind.map((_, i) => scene.nodesOf(i).reduce((least, n) => Math.min(least, numbers[n] >= 0 ? numbers[n] : Infinity), Infinity));
  const colors = rows.map(([, color], k) => color || LIST[k % LIST.length]);
  return {
    color: (i) => colors[first[i]] ?? theme.missing, mark: (i) => rows[first[i]]?.[2] ?? "",
    words: (n) => [rows[numbers[n]]?.[0], header.texts?.[n]].filter(Boolean).join("\n"),
    targets: () => downwards(scene, (n) => numbers[n] >= 0),
    legend: () => el("div", {},
      el("h4", {}, header.title),
      el("div", { class: "keys" }, ...rows.map(([name, , sign], k) => counts[k]
        ? el("span", {}, el("i", { style: `background:${colors[k]}` }), `${sign} ${name} (${counts[k]})`.trim()) : null)),
      counts.some(Boolean) ? null : el("div", { class: "soft" }, "No node is marked."),
      header.note ? el("div", { class: "soft" }, header.note) : null),
  };
}

function numeric(
  scene: Scene, theme: Theme, numbers: Float64Array, title: string, unit: string, scale: string, note: string,
): Coloring {
  let [least, top, any] = [Infinity, -Infinity, 0];
  for (const v of numbers)
    if (Number.isFinite(v)) {
      any++;
      top = Math.max(top, v);
      if (scale === "linear" || v > 0) least = Math.min(least, v);
    }
  if (least === Infinity) least = top === -Infinity ? 0 : top;
  if (scale === "log" && top > 0) least = Math.max(least, top * 1e-8);
  const at = (v: number) =>
    top === least ? 1 : scale === "log" ? (v <= least ? 0 : Math.log(v / least) / Math.log(top / least)) : (v - least) / (top - least);
  const tone = (t: number) => ramp(theme.dark ? 0.18 + 0.82 * t : 0.05 + 0.95 * t);
  const sum = (i: number) => {
    let found = NaN;
    for (const n of scene.nodesOf(i)) if (!Number.isNaN(numbers[n])) found = Number.isNaN(found) ? numbers[n] : Math.max(found, numbers[n]);
    return found;
  };
  const colors = scene.kind.map((_, i) => {
    const v = sum(i);
    return Number.isNaN(v) ? theme.missing : tone(v === Infinity ? 1 : at(v));
  });
  const show = (v: number) => (unit === "B" ? byteCount(v) : unit ? `${number(v)} ${unit}` : count(v));
  return {
    color: (i) => colors[i], words: (n) => (Number.isNaN(numbers[n]) ? "" : show(numbers[n])),
    targets: () => [...numbers.keys()].filter((n) => !Number.isNaN(numbers[n])).sort((a, b) => numbers[b] - numbers[a] || a - b),
    legend: () => {
      const stops = Array.from({ length: 12 }, (_, i) => tone(i / 11)).join(",");
      return el("div", {},
        el("h4", {}, title),
        any ? el("div", { class: "ramp", style: `background:linear-gradient(90deg,${stops})` }) : null,
        any ? el("div", { class: "ends" }, el("span", {}, show(least)), el("span", {}, scale === "log" ? "log" : ""), el("span", {}, show(top))) : el("div", { class: "soft" }, "No node has a value."),
        any < numbers.length ? el("div", { class: "keys" }, el("span", {}, el("i", { style: `background:${theme.missing}` }), `none (${numbers.length - any})`)) : null,
        note ? el("div", { class: "soft" }, note) : null);
    },
  };
}
