// Edits from the view: what the menu, the keys and the inspector ask the kernel to do.
import { WEIGHT } from "./data";
import { el, short } from "./dom";
import { type Field, form } from "./fields";
import { history, type Row } from "./history";
import { type Item, menu } from "./menu";
import { GROUP, NODE } from "./scene";
import type { View } from "./view";

export type Change = Record<string, unknown> & { edit: string };
export const DTYPES = "float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool".split(" ");
const PIECE = 4 << 20; // bytes of a file in one message; 20 MB at once are lost on the way

export class Edits {
  readonly pane = el("aside", { class: "wbg-history", hidden: true, "aria-label": "History" });
  private operators?: string[];

  constructor(private view: View) {}

  get able() {
    return !!this.view.host.call && this.view.host.editable;
  }

  /** Asks the kernel; long work shows that it goes on. */
  async ask<T>(method: string, params: object = {}, buffers?: ArrayBuffer[]): Promise<T> {
    const { root, host } = this.view;
    const slow = setTimeout(() => root.classList.add("busy"), 300);
    try {
      return (await host.call!<T>(method, params, undefined, buffers)).result;
    } finally {
      clearTimeout(slow);
      root.classList.remove("busy");
    }
  }

  /** Applies an edit, whose tensors are numbers in `data`; rejects with the reason when it is refused. */
  async change(change: Change, data = this.view.data) {
    const { text } = await this.ask<{ text: string }>("edit", { stamp: data.head.stamp, edit: change });
    this.view.tell("");
    this.view.words.say(text);
  }

  /** An edit without a field of its own: what is wrong is told over the graph. */
  act(what: Change | "undo" | "redo", hint?: Item) {
    if (!this.able) return;
    const done = typeof what === "string" ? this.ask(what).then(() => this.view.tell("")) : this.change(what);
    void done.catch((error: Error) => this.view.tell(error.message, hint));
  }

  undo = () => this.act("undo");
  redo = () => this.act("redo");

  remove(how: "bypass" | "cut") {
    const nodes = this.view.selection.map((n) => this.view.data.name(n));
    if (nodes.length) this.act({ edit: "delete", nodes, how }, how === "bypass" ? { label: "Cut it out instead", act: () => this.act({ edit: "delete", nodes, how: "cut" }) } : undefined);
  }

  async copy() {
    try {
      const { text, note } = await this.ask<{ text: string; note: string }>("python");
      await copyText(text).then(
        () => this.view.tell(note ? `Copied; ${note}` : "Copied as Python."),
        () => form(this.view.root, { title: "Copy as Python", note: "The browser does not let the view write to the clipboard: copy it from here.", ok: "Close", fields: [{ key: "text", label: "Script", value: text, long: true }], take: async () => {} }),
      );
    } catch (error) {
      this.view.tell((error as Error).message);
    }
  }

  // --- the history

  toggleHistory() {
    this.pane.hidden = !this.pane.hidden;
    if (!this.pane.hidden) void this.showHistory().then(() => this.pane.querySelector<HTMLElement>(".now")?.focus());
    else this.view.canvas.focus();
  }

  async showHistory() {
    if (this.pane.hidden || !this.able) return;
    try {
      const { rows, past } = await this.ask<{ rows: Row[]; past: number }>("history");
      history(this.pane, rows, past, {
        undo: this.undo, redo: this.redo, copy: () => void this.copy(), close: () => this.toggleHistory(),
        goto: (number) => void this.ask("goto", { number }).catch((error: Error) => this.view.tell(error.message)),
      });
    } catch (error) {
      this.pane.replaceChildren(el("span", { class: "wbg-bad", role: "alert" }, (error as Error).message));
    }
  }

  // --- forms

  private form(title: string, ok: string, fields: Field[], make: (v: Record<string, string>) => Change, note?: string) {
    const { data } = this.view;
    form(this.view.root, { title, ok, fields, note, take: (values) => this.change(make(values), data) });
  }

  /** Which readers of a tensor get what is inserted. */
  private readers(t: number): Field[] {
    const { data } = this.view;
    const names = [...new Set(data.consumers(t))].map((n) => data.name(n));
    return names.length > 1 ? [{ key: "to", label: "For", fixed: true, value: ALL, choices: [ALL, ...names] }] : [];
  }

  insert(kind: "cast" | "identity" | "qdq" | "node", t: number) {
    const { data } = this.view;
    const title = `Insert ${kind === "qdq" ? "QuantizeLinear and DequantizeLinear" : kind === "node" ? "a node" : kind === "cast" ? "a Cast" : "an Identity"}`;
    const note = `After ${short(data.tensor(t), 120)}  ${data.type(t)}`;
    const to = (v: Record<string, string>) => (v.to && v.to !== ALL ? { to: [v.to] } : {});
    const fields: Record<string, Field[]> = {
      cast: [{ key: "dtype", label: "Data type", value: "float16", fixed: true, choices: DTYPES }],
      identity: [],
      qdq: [{ key: "scale_text", label: "Scale", value: "0.01", hint: "0.01, or one per slice: [0.01, 0.02]" }, { key: "zero_point_text", label: "Zero point", value: "0" },
        { key: "dtype", label: "Data type", value: "int8", fixed: true, choices: ["int8", "uint8", "int16", "uint16"] }, { key: "axis_text", label: "Axis", hint: "for one scale per slice" }],
      node: [{ key: "op_type", label: "Operator", value: "Relu", choices: this.operators ?? [] }, { key: "attributes_text", label: "Attributes", hint: "axis=1, perm=[0, 2, 1]" },
        { key: "inputs_text", label: "Inputs", hint: "_ is the tensor; others by name: _, weight" }],
    };
    const open = () => this.form(title, "Insert", [...fields[kind], ...this.readers(t)], ({ to: _, ...v }) => ({ edit: `insert_${kind}`, tensor: t, ...split(v), ...to({ to: _ }) }), note);
    if (kind !== "node" || this.operators) return open();
    return void this.ask<string[]>("operators").then((list) => {
      this.operators = list;
      fields.node[0].choices = list;
      open();
    }, (error: Error) => this.view.tell(error.message));
  }

  rename() {
    const { data, selection } = this.view;
    if (selection.length !== 1) return;
    const node = data.name(selection[0]);
    this.form("Rename the node", "Rename", [{ key: "name", label: "Name", value: node }], (v) => ({ edit: "rename_node", node, ...v }));
  }

  async replaceOperator(node: string, op: string, domain: string) {
    this.operators ??= await this.ask<string[]>("operators");
    this.form("Replace the operator", "Replace", [{ key: "op_type", label: "Operator", value: op, choices: this.operators }, { key: "domain", label: "Domain", value: domain }],
      (v) => ({ edit: "replace_op", node, ...split(v) }), "Inputs, outputs and the attributes that both have stay.");
  }

  /** Tensors that lead into the selection and out of it. */
  private border(nodes: number[]): [number[], number[]] {
    const { data } = this.view;
    const inside = new Set(nodes);
    const given = data.head.graphs[0].outputs;
    const ins = new Set(nodes.flatMap((n) => [...data.inputs(n)]).filter((t) => t >= 0 && data.kind[t] !== WEIGHT && !inside.has(data.producer[t])));
    const outs = new Set(nodes.flatMap((n) => [...data.outputs(n)]).filter((t) => t >= 0 && (given.includes(t) || !data.consumers(t).length || data.consumers(t).some((u) => !inside.has(u)))));
    return [[...ins], [...outs]];
  }

  extract() {
    const { data, selection } = this.view;
    const [inputs, outputs] = this.border(selection);
    const list = (ts: number[]) => ts.slice(0, 6).map((t) => short(data.tensor(t), 60)).join(", ") + (ts.length > 6 ? ` and ${ts.length - 6} more` : "");
    this.form("Extract the selection", "Extract", [], () => ({ edit: "extract", inputs, outputs }),
      `The model becomes what leads from ${list(inputs) || "no input"} to ${list(outputs)}. Undo brings the rest back.`);
  }

  scope() {
    const { data, selection } = this.view;
    const nodes = selection.map((n) => data.name(n));
    this.form("Put into a module", "Set", [{ key: "scope", label: "Module", value: data.path(data.scope[selection[0]]).join("/"), hint: "encoder/layer.0; empty for none" }], (v) => ({ edit: "set_scope", nodes, ...v }));
  }

  addInput() {
    this.form("Add an input", "Add", [{ key: "name", label: "Name", value: "input" }, { key: "dtype", label: "Data type", fixed: true, value: "float32", choices: DTYPES }, { key: "shape_text", label: "Shape", hint: "batch × 3 × 224 × 224" }],
      (v) => ({ edit: "add_input", ...v }), "Nothing reads it until an input of a node is connected to it.");
  }

  connect(node: string, input: number, tensor: string) {
    this.form("Connect another tensor", "Connect", [{ key: "tensor_text", label: "Tensor", value: tensor, choices: this.view.data.head.tensors.slice(0, 3000) }],
      (v) => ({ edit: "reconnect", node, input, ...v }), `Input ${input} of ${short(node, 100)}; empty leaves an optional input out.`);
  }

  async upload(tensor: number, file: File, data = this.view.data) {
    const name = `${Date.now()}`;
    for (let at = 0; at === 0 || at < file.size; at += PIECE)
      await this.ask("upload", { file: name, at }, [await file.slice(at, at + PIECE).arrayBuffer()]);
    await this.change({ edit: "replace_weight", tensor, upload: name }, data);
  }

  // --- menus

  forTensor(t: number): Item[] {
    const { data, view } = { data: this.view.data, view: this.view };
    const probe = data.head.graphs[0].outputs.includes(t);
    const [from, users] = [data.producer[t], [...new Set(data.consumers(t))]];
    const look: Item[] = [{ label: "Inspect the tensor", act: () => view.inspect(t) }];
    if (from >= 0) look.push({ label: "Go to its producer", act: () => view.go([from]) });
    if (users.length) look.push({ label: "Go to its consumers", act: () => view.go(users) });
    if (!this.able) return look;
    const insert: Item[] = data.kind[t] === WEIGHT ? [] : [
      { label: "Insert a Cast …", act: () => this.insert("cast", t) }, { label: "Insert an Identity …", act: () => this.insert("identity", t) },
      { label: "Insert QuantizeLinear/DequantizeLinear …", act: () => this.insert("qdq", t) }, { label: "Insert a node …", act: () => this.insert("node", t) },
      LINE, probe ? { label: "Remove from the outputs", act: () => this.act({ edit: "remove_output", output: data.tensor(t) }) }
        : { label: "Add as an output (probe)", key: "O", act: () => this.act({ edit: "add_output", tensor: t }) }, LINE];
    return [...insert, ...look];
  }

  private forNodes(nodes: number[]): Item[] {
    const { data } = this.view;
    const one = nodes.length === 1 ? nodes[0] : -1;
    const out = one >= 0 ? [...data.outputs(one)].find((t) => t >= 0) : undefined;
    const copy: Item = { label: one >= 0 ? "Copy the name" : "Copy the names", act: () => void copyText(nodes.map((n) => data.name(n)).join("\n")).catch((error: Error) => this.view.tell(error.message)) };
    if (!this.able) return [copy];
    return [
      ...(one >= 0 ? [{ label: "Rename …", key: "F2", act: () => this.rename() }, { label: "Replace the operator …", act: () => void this.replaceOperator(data.name(one), data.opName(one), data.domain(one)) }] : []),
      { label: "Delete, bypass", key: "Del", act: () => this.remove("bypass") }, { label: "Delete, cut", key: "Shift+Del", act: () => this.remove("cut") },
      { label: "Extract as the model …", key: "X", act: () => this.extract() }, { label: "Put into a module …", key: "G", act: () => this.scope() }, LINE,
      ...(out !== undefined ? [...this.forTensor(out).slice(0, -1).filter((item) => !item.label.startsWith("Go to")), LINE] : []), copy,
    ];
  }

  private forModel(): Item[] {
    if (!this.able) return [];
    const act = (label: string, change: Change): Item => ({ label, act: () => this.act(change) });
    return [
      LINE, { label: "Undo", key: "Ctrl+Z", act: this.undo }, { label: "Redo", key: "Ctrl+Shift+Z", act: this.redo },
      { label: "History", key: "Y", act: () => this.toggleHistory() }, { label: "Copy as Python", act: () => void this.copy() }, LINE,
      { label: "Add an input …", act: () => this.addInput() }, act("Remove what is not used", { edit: "clean_up" }), act("Fold constants", { edit: "fold_constants" }), act("Simplify (onnxslim)", { edit: "simplify" }),
      { label: "Convert the opset …", act: () => this.form("Convert the opset", "Convert", [{ key: "version_text", label: "Version of ai.onnx", value: "" }], (v) => ({ edit: "convert_opset", ...v })) },
    ];
  }

  /** The menu for what is at a place of the canvas, or for the selection. */
  menu(x: number, y: number, item = -1, tensor = -1) {
    const { view } = this;
    const { scene } = view;
    const port = item >= 0 && scene.kind[item] > GROUP ? scene.ref[item] : tensor;
    if (item >= 0 && scene.kind[item] <= GROUP) {
      const nodes = scene.nodesOf(item);
      if (!nodes.every((n) => view.selection.includes(n))) view.select(nodes);
    }
    const items = port >= 0 ? this.forTensor(port) : view.selection.length && (item >= 0 || tensor === -2) ? this.forNodes(view.selection) : [];
    const all = [...items, ...this.forModel()];
    const clean = all.filter((row, i) => row.label || (i > 0 && i + 1 < all.length && all[i - 1].label));
    if (clean.length) menu(view.root, clean, x, y, port >= 0 ? "Tensor" : items.length ? "Selection" : "Model");
  }

  /** At the selected node, for the keyboard. */
  menuHere() {
    const { view } = this;
    const item = view.selection.length ? view.scene.itemOf[view.selection[0]] : -1;
    const [x, y] = item >= 0 && view.scene.kind[item] === NODE ? view.renderer.toScreen(view.scene.x[item], view.scene.y[item] + view.scene.h[item]) : [40, 40];
    this.menu(Math.max(8, Math.min(x, view.renderer.width)) + view.canvas.getBoundingClientRect().left - view.root.getBoundingClientRect().left, Math.max(8, Math.min(y, view.renderer.height)) + 44, -1, -2);
  }

  probe() {
    const { data, selection } = this.view;
    const t = selection.length === 1 ? [...data.outputs(selection[0])].find((one) => one >= 0) : undefined;
    if (t !== undefined) this.act({ edit: "add_output", tensor: t });
  }

  /** A key on the canvas; whether it was one of these. */
  key(event: KeyboardEvent): boolean {
    const control = event.ctrlKey || event.metaKey;
    const some = this.view.selection.length > 0;
    const keys: Record<string, () => void> = control
      ? { z: event.shiftKey ? this.redo : this.undo, Z: this.redo, y: this.redo }
      : { F2: () => this.rename(), Delete: () => this.remove(event.shiftKey ? "cut" : "bypass"), o: () => this.probe(), x: () => some && this.extract(),
        g: () => some && this.scope(), y: () => this.toggleHistory(), m: () => this.menuHere(), ContextMenu: () => this.menuHere(), ...(event.shiftKey ? { F10: () => this.menuHere() } : {}) };
    if (event.altKey || !keys[event.key]) return false;
    if (this.able || ["m", "ContextMenu", "F10"].includes(event.key)) keys[event.key]();
    return true;
  }
}

const ALL = "all that read it";
const LINE: Item = { label: "", act: () => {} };

/** What was left empty is left out; domain::Operator is both. */
function split(values: Record<string, string>): Record<string, string> {
  const made = Object.fromEntries(Object.entries(values).filter(([, text]) => text.trim()));
  const [domain, op] = (made.op_type ?? "").split("::");
  return op ? { ...made, domain, op_type: op } : made;
}

async function copyText(text: string) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("the browser does not allow copying");
  }
}
