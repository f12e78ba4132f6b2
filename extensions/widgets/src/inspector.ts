// The panel beside the graph: what is known of the selection. Details come from the kernel, when asked for.
import { byteCount, count, el, number, short } from "./dom";
import { type Data, WEIGHT } from "./data";
import { type Change, DTYPES, type Edits } from "./edits";
import { type Field, field } from "./fields";
import { menu } from "./menu";
import type { Host } from "./host";

export interface Acts {
  go(nodes: number[]): void;
  goTensor(tensor: number): void;
  select(nodes: Iterable<number>): void;
  close(): void;
  toggle(node: number): void;
  isOpen(node: number): boolean;
  value?(node: number): string;
}

interface Attribute {
  name: string; value: string; type: string; doc: string; given: boolean;
  text: string | null; choices: string[]; required: boolean;
}
interface Port { name: string; doc: string }
interface NodeDetails {
  doc: string; since: number | null; attributes: Attribute[]; inputs: Port[]; outputs: Port[];
  open: boolean; module: string; metadata: Record<string, string>;
}
interface TensorDetails { key: string; input: boolean; output: boolean; main: boolean; metadata: Record<string, string> }
interface ModelDetails { opsets: Record<string, number>; producer: string; metadata: Record<string, string> }
interface WeightDetails {
  count: number; min: number; max: number; mean: number; std: number; zeros: number; nan: number; inf: number;
  counts: number[]; edges: number[]; values: string; sampled: boolean;
}

export class Inspector {
  private abort = new AbortController();
  private shown = "";
  private again?: () => void;

  constructor(readonly root: HTMLElement, public data: Data, readonly host: Host, readonly acts: Acts, readonly edits: Edits) {}

  show(nodes: number[]) {
    if (!nodes.length && this.again && this.shown !== "nodes") return this.again();
    this.again = undefined;
    this.fill(nodes.length === 1 ? this.data.name(nodes[0]) : "nodes", !nodes.length ? [] : nodes.length === 1 ? this.one(nodes[0]) : this.many(nodes));
  }

  /** A tensor, by its name: its number changes with edits. */
  tensor(t: number) {
    const name = this.data.tensor(t);
    const draw = () => {
      const now = t < this.data.head.tensors.length && this.data.tensor(t) === name ? t : this.data.head.tensors.indexOf(name);
      if (now >= 0) this.fill(`tensor ${name}`, this.ofTensor(now));
      else this.close();
    };
    this.again = draw;
    draw();
  }

  model() {
    this.again = () => this.fill("the model", this.ofModel());
    this.again();
  }

  close() {
    this.again = undefined;
    this.acts.close();
  }

  /** Fills the panel; the focus stays in the field that it was in, and the place when it is the same thing. */
  private fill(what: string, parts: Node[]) {
    if (this.shown === what && this.typing) return void (this.starts = []);
    this.abort.abort();
    this.abort = new AbortController();
    for (const start of this.starts.splice(0)) start();
    const held = this.root.contains(document.activeElement) && (document.activeElement as HTMLElement).dataset.key;
    const top = this.shown === what ? this.root.scrollTop : 0;
    this.shown = what;
    this.root.hidden = !parts.length;
    this.root.replaceChildren(el("button", { class: "close", "aria-label": "Clear the selection", click: () => this.close() }, "×"), ...parts);
    this.root.scrollTop = top;
    if (held) this.focus(held);
  }

  /** Something is typed that is not taken yet. */
  private get typing() {
    const at = document.activeElement as HTMLElement | null;
    return this.root.contains(at) && at!.dataset.dirty !== undefined;
  }

  private starts: (() => void)[] = [];

  private focus(key: string) {
    this.root.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }

  private many(nodes: number[]) {
    const { data } = this;
    const ops = new Map<string, number>();
    for (const n of nodes) ops.set(data.opName(n), (ops.get(data.opName(n)) ?? 0) + 1);
    const sum = (column?: Float64Array) => column && nodes.reduce((total, n) => total + (column[n] || 0), 0);
    const [macs, bytes] = [sum(data.macs), sum(data.bytes)];
    const facts = el("dl");
    if (macs !== undefined) facts.append(el("dt", {}, "MACs"), el("dd", {}, count(macs)));
    if (bytes !== undefined) facts.append(el("dt", {}, "Bytes moved"), el("dd", {}, byteCount(bytes)));
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
    if (where.length && !this.edits.able) fact("Module", short(where.join(" / ")));
    if (graph.scope) fact("In", short(graph.scope));
    if (data.macs) fact("MACs", count(data.macs[n]));
    if (data.bytes) fact("Bytes moved", Number.isNaN(data.bytes[n]) ? "?" : byteCount(data.bytes[n]));
    const value = this.acts.value?.(n);
    if (value) fact("Overlay", value);
    const doc = el("p", { class: "doc" });
    const attributes = el("div");
    const more = el("div");
    const ports = (list: number[], up: boolean) => list.map((t, i) => (t < 0 ? undefined : this.port(t, up, up && data.kind[t] !== WEIGHT ? [data.name(n), i] : undefined)));
    const ins = [...data.inputs(n)];
    const live = ports(ins.map((t) => (t >= 0 && data.kind[t] === WEIGHT ? -1 : t)), true);
    const outs = ports([...data.outputs(n)], false);
    const parts: (Node | undefined)[] = [
      el("h3", {}, data.opName(n)), this.edits.able ? undefined : el("div", { class: "name soft" }, el("bdi", {}, data.name(n))), ...this.names(n), facts, this.buttons([n]),
      el("h4", {}, "Attributes"), attributes,
      ...section("Inputs", live), ...section("Outputs", outs),
      ...section("Weights", data.weights(n).map((t) => this.weight(t))), more,
    ];
    this.plainAttributes(attributes, data.attributes(n));
    if (host.call) {
      parts.push(el("h4", {}, "Documentation"), doc);
      doc.textContent = "…";
      this.starts.push(() => this.ask<NodeDetails>("node", { node: data.name(n) }, doc, (found) => {
        const held = this.root.contains(document.activeElement) && (document.activeElement as HTMLElement).dataset.key;
        doc.textContent = found.doc || "No documentation: the operator has no schema here.";
        attributes.replaceChildren(...found.attributes.map((a) => this.attribute(data.name(n), a)));
        if (!found.attributes.length) attributes.append(el("span", { class: "soft" }, "none"));
        if (this.edits.able) {
          if (found.open) attributes.append(this.adding("attribute", (name, value_text) => ({ edit: "set_attribute", node: data.name(n), name, value_text })));
          more.replaceChildren(...this.metadata(found.metadata, { node: data.name(n) }));
        }
        const module = this.root.querySelector<HTMLInputElement>('[data-key="module"]');
        if (module && document.activeElement !== module && !module.value) module.value = found.module;
        if (held) this.focus(held);
      }));
    }
    return parts.filter((part) => part !== undefined);
  }

  private row1(label: string, control: Node) {
    return el("div", { class: "wbg-line" }, el("span", { class: "soft", "aria-hidden": "true", title: label }, label), control);
  }

  /** A line with a field whose text becomes an edit. */
  private line(f: Field, make: (text: string) => Change) {
    const { data } = this;
    return this.row1(f.label, field(f, (text) => this.edits.change(make(text), data)));
  }

  private names(n: number): Node[] {
    const { data } = this;
    const [node, module] = [data.name(n), data.path(data.scope[n]).join("/")];
    if (!this.edits.able) return [];
    const op = data.domain(n) ? `${data.domain(n)}::${data.opName(n)}` : data.opName(n);
    return [
      this.line({ key: "name", label: "Name", value: node }, (name) => ({ edit: "rename_node", node, name })),
      this.line({ key: "op", label: "Operator", value: op }, (text) => {
        const [domain, name] = text.includes("::") ? text.split("::") : ["", text];
        return { edit: "replace_op", node, op_type: name, domain };
      }),
      this.line({ key: "module", label: "Module", value: module }, (scope) => ({ edit: "set_scope", nodes: [node], scope })),
    ];
  }

  /** Two fields that add an entry. */
  private adding(what: string, make: (key: string, value: string) => Change) {
    const name = el("input", { type: "text", placeholder: "new …", title: `Name of a new ${what}`, "aria-label": `Name of a new ${what}`, "data-key": `new ${what}`, autocomplete: "off" });
    name.addEventListener("keydown", (event) => event.stopPropagation());
    return el("div", { class: "wbg-line" }, name, field({ key: `value of new ${what}`, label: `Value of the new ${what}`, hint: "value, then Enter" }, (text) => this.edits.change(make(name.value, text))));
  }

  private metadata(entries: Record<string, string>, of: object): Node[] {
    const rows = Object.entries(entries).map(([key, value]) => this.line({ key: `metadata ${key}`, label: short(key, 60), value },
      (text) => ({ edit: "set_metadata", key, value: text || null, ...of })));
    return [el("h4", {}, "Metadata"), ...rows, this.adding("entry", (key, value) => ({ edit: "set_metadata", key, value, ...of }))];
  }

  private ofTensor(t: number): Node[] {
    const { data, edits } = this;
    const more = el("div");
    const users = [...new Set(data.consumers(t))];
    const from = data.producer[t];
    const facts = el("dl", {}, el("dt", {}, "Type"), el("dd", {}, data.type(t) || "not known"));
    this.starts.push(() => {
      if (!this.host.call) return;
      this.ask<TensorDetails>("tensor", { tensor: t }, more, (found) => {
        if (!edits.able) return more.replaceChildren();
        const name = found.key.slice(found.key.length - data.tensor(t).length);
        const old = { value: name, key: "name", label: "Name" };
        const rows: Node[] = [found.input ? this.line(old, (to) => ({ edit: "rename_input", input: name, name: to }))
          : found.output ? this.line(old, (to) => ({ edit: "rename_output", output: name, name: to }))
            : this.line(old, (to) => ({ edit: "rename_tensor", tensor: t, name: to }))];
        if (found.input) rows.push(
          this.line({ key: "dtype", label: "Data type", value: data.dtypeOf(t), fixed: true, choices: DTYPES }, (dtype) => ({ edit: "set_input", input: name, dtype })),
          this.line({ key: "shape", label: "Shape", value: data.shapeOf(t).replaceAll("×", " × "), hint: "batch × 3 × 224 × 224" }, (shape_text) => ({ edit: "set_input", input: name, shape_text })));
        const act = (label: string, change: Change) => el("button", { click: () => edits.act(change) }, label);
        rows.push(el("div", { class: "wbg-acts" },
          found.output ? act("Remove from the outputs", { edit: "remove_output", output: name }) : found.main ? act("Add as an output", { edit: "add_output", tensor: t }) : null,
          found.input ? act("Remove this input", { edit: "remove_input", input: name }) : null));
        return more.replaceChildren(...rows, ...this.metadata(found.metadata, { tensor: t }));
      });
    });
    const go = (n: number) => this.row(data.opName(n), data.name(n), () => this.acts.go([n]));
    return [el("h3", {}, "Tensor"), el("div", { class: "name soft" }, el("bdi", {}, data.tensor(t))), facts, more,
      ...(from >= 0 ? section("Producer", [go(from)]) : []), ...section("Consumers", users.slice(0, 40).map(go)),
      ...(data.kind[t] === WEIGHT ? section("Weight", [this.weight(t, true)]) : [])];
  }

  private ofModel(): Node[] {
    const { data } = this;
    const more = el("div");
    const main = data.head.graphs[0];
    this.starts.push(() => this.ask<ModelDetails>("model", {}, more, (found) => {
      const facts = el("dl");
      for (const [domain, version] of Object.entries(found.opsets)) facts.append(el("dt", {}, domain || "ai.onnx"), el("dd", {}, `opset ${version}`));
      if (found.producer) facts.append(el("dt", {}, "Made by"), el("dd", {}, short(found.producer)));
      more.replaceChildren(facts, ...(this.edits.able ? this.metadata(found.metadata, {}) : []));
    }));
    return [el("h3", {}, "Model"), el("div", { class: "name soft" }, el("bdi", {}, data.head.name)), more,
      ...section("Inputs", main.inputs.map((t) => this.port(t, true))), ...section("Outputs", main.outputs.map((t) => this.port(t, false)))];
  }

  private plainAttributes(root: HTMLElement, text: string) {
    const list = el("dl");
    for (const word of text ? text.split(/ (?=\w+=)/) : []) {
      const [name, ...rest] = word.split("=");
      list.append(el("dt", {}, name), el("dd", {}, rest.join("=")));
    }
    root.replaceChildren(text ? list : el("span", { class: "soft" }, "none"));
  }

  private attribute(node: string, a: Attribute) {
    const shown = a.given ? el("b", {}, ` = ${a.value}`) : el("span", { class: "soft" }, ` = ${a.value} (default)`);
    const head = el("summary", {}, a.name, this.edits.able && a.text !== null ? el("span", { class: "soft" }, ` ${a.type}`) : shown);
    const about = el("details", {}, head, el("p", { class: "doc" }, `${a.type}. ${a.doc}`));
    if (!this.edits.able || a.text === null) return about;
    const reset = a.given && !a.required ? el("button", { class: "small", title: "Remove: the default holds then", "aria-label": `Remove ${a.name}`, click: () => this.edits.act({ edit: "remove_attribute", node, name: a.name }) }, "×") : undefined;
    return el("div", { class: "wbg-attribute" }, about, field(
      { key: `attribute ${a.name}`, label: a.name, value: a.given ? a.text : "", choices: a.choices, hint: a.given ? "" : `${a.value} (default)` },
      (text) => this.edits.change({ edit: "set_attribute", node, name: a.name, value_text: text }), ...(reset ? [reset] : [])));
  }

  private port(t: number, up: boolean, of?: [string, number]) {
    const { data } = this;
    const users = [...new Set(data.consumers(t))];
    const producer = data.producer[t];
    const other = up ? (producer >= 0 ? `from ${data.opName(producer)}` : "graph input") : users.length ? `to ${users.map((u) => data.opName(u)).slice(0, 6).join(", ")}${users.length > 6 ? ` and ${users.length - 6} more` : ""}` : "graph output";
    const row = el("button", { class: "wbg-row", title: up ? "Go to the producer" : "Go to the consumers", click: () => (up ? (producer >= 0 ? this.acts.go([producer]) : this.acts.goTensor(t)) : users.length ? this.acts.go(users) : this.acts.goTensor(t)) },
      short(data.tensor(t), 160), el("small", {}, `${data.type(t) || "type not known"} · ${other}`));
    const open = (event: MouseEvent) => {
      const items = this.edits.forTensor(t);
      if (of && this.edits.able) items.push({ label: "", act: () => {} }, { label: "Connect another tensor …", act: () => this.edits.connect(...of, data.tensor(t)) });
      const [box, all] = [(event.currentTarget as HTMLElement).getBoundingClientRect(), this.root.closest(".wbg")!.getBoundingClientRect()];
      menu(this.root.closest<HTMLElement>(".wbg")!, items, box.left - all.left, box.bottom - all.top, "Tensor");
    };
    return el("div", { class: "wbg-port" }, row, el("button", { class: "small", "aria-label": `What can be done with ${short(data.tensor(t), 60)}`, "aria-haspopup": "menu", click: open as () => void }, "⋯"));
  }

  private weight(t: number, open = false) {
    const { data, host } = this;
    const body = el("div");
    const box = el("details", { open }, el("summary", {}, short(data.tensor(t), 120), " ", el("span", { class: "soft" }, data.type(t))), body);
    box.addEventListener("toggle", () => {
      if (!box.open || body.childNodes.length) return;
      if (!host.call) return body.append(el("span", { class: "soft" }, "Values are shown in a notebook."));
      body.textContent = "reading …";
      this.ask<WeightDetails>("weight", { tensor: t }, body, (w) => body.replaceChildren(...this.statistics(w), ...(this.edits.able ? this.reweigh(t) : [])));
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

  /** Another dtype, other values. */
  private reweigh(t: number): Node[] {
    const { data, edits } = this;
    const cast = el("input", { type: "checkbox", "data-key": "cast" });
    const file = el("input", { type: "file", accept: ".npy", "data-key": "npy", "aria-label": "Replace the values from a .npy file" });
    const wrong = el("div", { class: "wbg-bad", role: "alert" });
    file.addEventListener("change", () => {
      wrong.textContent = "";
      if (file.files?.[0]) void edits.upload(t, file.files[0], data).catch((error: Error) => (wrong.textContent = error.message));
    });
    return [
      this.line({ key: "weight dtype", label: "Data type", value: data.dtypeOf(t), fixed: true, choices: DTYPES }, (dtype) => ({ edit: "set_weight_dtype", tensor: t, dtype, cast: cast.checked })),
      this.row1("", el("label", {}, cast, " with a Cast back for its readers")), this.row1("Values", file), wrong,
    ];
  }

  private ask<T>(method: string, params: object, at: HTMLElement, then: (found: T) => void) {
    const { signal } = this.abort;
    this.host.call!<T>(method, params, signal).then(
      ({ result }) => !signal.aborted && then(result),
      (error: Error) => !signal.aborted && at.replaceChildren(el("span", { class: "wbg-bad", role: "alert" }, error.message)),
    );
  }
}

/** A headed list; nothing when it is empty. */
function section(title: string, rows: (Node | undefined)[]): Node[] {
  const there = rows.filter((row) => row !== undefined);
  return there.length ? [el("h4", {}, title), ...there] : [];
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
