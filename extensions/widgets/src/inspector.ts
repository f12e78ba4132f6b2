// The panel beside the graph: what is known of the selection. Details come from the kernel, when asked for.
import { el, count, number, short } from "./dom";
import { type Data, WEIGHT } from "./data";
import type { Host, Json } from "./host";

export interface Acts {
  go(nodes: number[]): void;
  goTensor(tensor: number): void;
  select(nodes: Iterable<number>): void;
  close(): void;
  toggle(node: number): void;
  isOpen(node: number): boolean;
  value?(node: number): string;
}

interface Attribute { name: string; value: string; type: string; doc: string; given: boolean }
interface NodeDetails { doc: string; since: number | null; attributes: Attribute[]; inputs: string[]; outputs: string[] }
interface WeightDetails {
  count: number; min: number; max: number; mean: number; std: number; zeros: number; nan: number; inf: number;
  counts: number[]; edges: number[]; values: string; sampled: boolean;
}

export class Inspector {
  private abort = new AbortController();

  constructor(readonly root: HTMLElement, readonly data: Data, readonly host: Host, readonly acts: Acts) {}

  show(nodes: number[]) {
    this.abort.abort();
    this.abort = new AbortController();
    this.root.hidden = !nodes.length;
    if (!nodes.length) return;
    const close = el("button", { class: "close", "aria-label": "Clear the selection", click: () => this.acts.close() }, "×");
    this.root.replaceChildren(close, ...(nodes.length === 1 ? this.one(nodes[0]) : this.many(nodes)));
    this.root.scrollTop = 0;
  }

  private many(nodes: number[]) {
    const { data } = this;
    const ops = new Map<string, number>();
    for (const n of nodes) ops.set(data.opName(n), (ops.get(data.opName(n)) ?? 0) + 1);
    const sum = (column?: Float64Array) => column && nodes.reduce((total, n) => total + (column[n] || 0), 0);
    const [macs, bytes] = [sum(data.macs), sum(data.bytes)];
    const facts = el("dl");
    if (macs !== undefined) facts.append(el("dt", {}, "MACs"), el("dd", {}, count(macs)));
    if (bytes !== undefined) facts.append(el("dt", {}, "Bytes moved"), el("dd", {}, `${count(bytes)}B`));
    const list = el("dl");
    for (const [op, k] of [...ops].sort((a, b) => b[1] - a[1]).slice(0, 30)) list.append(el("dt", {}, op), el("dd", {}, String(k)));
    const rows = nodes.slice(0, 60).map((n) => this.row(data.opName(n), data.name(n), () => this.acts.go([n])));
    return [el("h3", {}, `${nodes.length} nodes`), facts, this.buttons(nodes), el("h4", {}, "Operators"), list,
      el("h4", {}, nodes.length > 60 ? "First 60" : "Nodes"), ...rows];
  }

  private buttons(nodes: number[]) {
    const { acts, data } = this;
    const act = (label: string, title: string, run: () => void) => el("button", { title, click: run }, label);
    const row = el("div", { class: "wbg-acts" },
      act("Ancestors", "Select all that leads here (A)", () => acts.select(data.reach(nodes, true))),
      act("Descendants", "Select all that follows (D)", () => acts.select(data.reach(nodes, false))));
    if (nodes.length === 2) row.append(act("Path", "Select every path between the two (P)", () => acts.select(data.between(nodes[0], nodes[1]))));
    if (nodes.length === 1) {
      row.append(act("Same operator", "Select all nodes with this operator (S)", () => {
        acts.select(Array.from({ length: data.nodes }, (_, n) => n).filter((n) => data.op[n] === data.op[nodes[0]]));
      }));
      if (data.bodies.has(nodes[0]))
        row.append(act(acts.isOpen(nodes[0]) ? "Close body" : "Open body", "Show what is inside (Enter)", () => acts.toggle(nodes[0])));
    }
    return row;
  }

  private row(title: string, text: string, go: () => void) {
    return el("button", { class: "wbg-row", click: go }, short(title, 120), el("small", {}, short(text)));
  }

  private one(n: number): Node[] {
    const { data, host } = this;
    const where = data.path(data.scope[n]);
    const graph = data.head.graphs[data.home[n]];
    const facts = el("dl");
    const fact = (key: string, text: string) => facts.append(el("dt", {}, key), el("dd", {}, text));
    if (data.domain(n)) fact("Domain", data.domain(n));
    if (where.length) fact("Module", short(where.join(" / ")));
    if (graph.scope) fact("In", short(graph.scope));
    if (data.macs) fact("MACs", count(data.macs[n]));
    if (data.bytes) fact("Bytes moved", Number.isNaN(data.bytes[n]) ? "?" : `${count(data.bytes[n])}B`);
    const value = this.acts.value?.(n);
    if (value) fact("Overlay", value);
    const doc = el("p", { class: "doc" });
    const attributes = el("div");
    const parts: Node[] = [
      el("h3", {}, data.opName(n)), el("div", { class: "name soft" }, data.name(n)), facts, this.buttons([n]),
      el("h4", {}, "Attributes"), attributes,
    ];
    this.plainAttributes(attributes, data.attributes(n));
    const ports = [...data.inputs(n)];
    const live = ports.filter((t) => t >= 0 && data.kind[t] !== WEIGHT);
    if (live.length) parts.push(el("h4", {}, "Inputs"), ...live.map((t) => this.port(t, true)));
    const outs = [...data.outputs(n)].filter((t) => t >= 0);
    if (outs.length) parts.push(el("h4", {}, "Outputs"), ...outs.map((t) => this.port(t, false)));
    const weights = data.weights(n);
    if (weights.length) parts.push(el("h4", {}, "Weights"), ...weights.map((t) => this.weight(t)));
    if (host.call) {
      parts.push(el("h4", {}, "Documentation"), doc);
      doc.textContent = "…";
      this.ask<NodeDetails>("node", { node: data.name(n) }, doc, (found) => {
        doc.textContent = found.doc || "No documentation: the operator has no schema here.";
        attributes.replaceChildren(...found.attributes.map((a) => this.attribute(a)));
        if (!found.attributes.length) attributes.append(el("span", { class: "soft" }, "none"));
      });
    }
    return parts;
  }

  private plainAttributes(root: HTMLElement, text: string) {
    const list = el("dl");
    for (const word of text ? text.split(/ (?=\w+=)/) : []) {
      const [name, ...rest] = word.split("=");
      list.append(el("dt", {}, name), el("dd", {}, rest.join("=")));
    }
    root.replaceChildren(text ? list : el("span", { class: "soft" }, "none"));
  }

  private attribute(a: Attribute) {
    const head = el("summary", {}, a.name, " = ", a.given ? el("b", {}, a.value) : el("span", { class: "soft" }, `${a.value} (default)`));
    return el("details", {}, head, el("p", { class: "doc" }, `${a.type}. ${a.doc}`));
  }

  private port(t: number, up: boolean) {
    const { data } = this;
    const users = [...new Set(data.consumers(t))];
    const producer = data.producer[t];
    const other = up ? (producer >= 0 ? `from ${data.opName(producer)}` : "graph input") : users.length ? `to ${users.map((u) => data.opName(u)).slice(0, 6).join(", ")}${users.length > 6 ? ` and ${users.length - 6} more` : ""}` : "graph output";
    return el("button", { class: "wbg-row", title: up ? "Go to the producer" : "Go to the consumers", click: () => (up ? (producer >= 0 ? this.acts.go([producer]) : this.acts.goTensor(t)) : users.length ? this.acts.go(users) : this.acts.goTensor(t)) },
      short(data.tensor(t), 160), el("small", {}, `${data.type(t) || "type not known"} · ${other}`));
  }

  private weight(t: number) {
    const { data, host } = this;
    const body = el("div");
    const box = el("details", {}, el("summary", {}, short(data.tensor(t), 120), " ", el("span", { class: "soft" }, data.type(t))), body);
    box.addEventListener("toggle", () => {
      if (!box.open || body.childNodes.length) return;
      if (!host.call) return body.append(el("span", { class: "soft" }, "Values are shown in a notebook."));
      body.textContent = "reading …";
      this.ask<WeightDetails>("weight", { tensor: t }, body, (w) => body.replaceChildren(...this.statistics(w)));
      return undefined;
    });
    return box;
  }

  private statistics(w: WeightDetails) {
    const list = el("dl");
    const fact = (key: string, text: string) => list.append(el("dt", {}, key), el("dd", {}, text));
    fact("Elements", `${count(w.count)}${w.sampled ? " (statistics of a sample)" : ""}`);
    fact("Range", `${number(w.min)} … ${number(w.max)}`);
    fact("Mean ± std", `${number(w.mean)} ± ${number(w.std)}`);
    fact("Zeros", `${w.zeros} (${((100 * w.zeros) / Math.max(1, w.count)).toFixed(1)} %)`);
    if (w.nan || w.inf) fact("NaN, Inf", `${w.nan}, ${w.inf}`);
    return [list, histogram(w.counts), el("div", { class: "soft", style: "display:flex;justify-content:space-between" },
      el("span", {}, number(w.edges[0])), el("span", {}, number(w.edges[w.edges.length - 1]))), el("pre", {}, w.values)];
  }

  private ask<T>(method: string, params: object, at: HTMLElement, then: (found: T) => void) {
    const { signal } = this.abort;
    this.host.call!(method, params, signal).then(
      ({ result }) => !signal.aborted && then(result as Json as T),
      (error: Error) => !signal.aborted && at.replaceChildren(el("span", { class: "wbg-bad", role: "alert" }, error.message)),
    );
  }
}

function histogram(counts: number[]): SVGElement {
  const make = (tag: string, attributes: Record<string, string | number>) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    return made;
  };
  const svg = make("svg", { viewBox: `0 0 ${counts.length} 40`, preserveAspectRatio: "none", role: "img", "aria-label": "histogram" });
  const top = Math.max(1, ...counts);
  counts.forEach((c, i) => svg.append(make("rect", { x: i + 0.08, width: 0.84, y: 40 - (40 * c) / top, height: (40 * c) / top, fill: "var(--accent)" })));
  return svg as SVGElement;
}
