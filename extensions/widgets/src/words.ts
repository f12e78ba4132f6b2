// What the view says: the hover card, the foot, and the list and the voice for a screen reader.
import { count, el, short } from "./dom";
import { GROUP, NODE } from "./scene";
import type { View } from "./view";

export class Words {
  readonly card = el("div", { class: "wbg-card", hidden: true });
  readonly foot = el("div", { class: "wbg-foot" });
  readonly list = el("ul", { class: "wbg-hidden", role: "listbox", "aria-label": "Nodes", tabindex: "-1" });
  readonly voice = el("div", { class: "wbg-hidden", "aria-live": "polite" });
  private told = ""; // in the foot
  private announcing = 0;

  constructor(private view: View) {}

  say(text: string) {
    this.voice.textContent = text;
  }

  private describe(n: number): string {
    const { data } = this.view;
    const outputs = [...data.outputs(n)].filter((t) => t >= 0);
    const to = [...new Set(outputs.flatMap((t) => [...data.consumers(t)]))];
    return short(`${data.opName(n)}, ${data.name(n)}, ${outputs.map((t) => data.type(t)).join(" and ")}, to ${to.slice(0, 4).map((u) => data.opName(u)).join(", ") || "the output"}`, 400);
  }

  /** Tells of the selection, after the picture. */
  later() {
    clearTimeout(this.announcing);
    this.announcing = window.setTimeout(() => this.announce());
  }

  /** The screen reader's list: the nodes around the selected one. */
  private announce() {
    const { view } = this;
    const { data, selection } = view;
    const here = selection[0] ?? 0;
    const from = Math.max(0, here - 20);
    const rows: HTMLElement[] = [];
    for (let n = from; n < Math.min(data.nodes, from + 40); n++)
      rows.push(el("li", {
        role: "option", "aria-posinset": String(n + 1), "aria-setsize": String(data.nodes),
        "aria-selected": String(selection.includes(n)), click: () => view.go([n]),
      }, this.describe(n)));
    this.list.replaceChildren(...rows);
    this.say(selection.length === 1 ? this.describe(here) : selection.length ? `${selection.length} nodes selected` : "");
  }

  /** The foot: where the middle of the view is, how much is selected and shown, the zoom. */
  status() {
    const { data, scene, selection, renderer } = this.view;
    const { camera } = renderer;
    const i = camera.k > 0.15 ? renderer.itemAt(renderer.width / 2, renderer.height / 2) : -1;
    const n = i >= 0 ? scene.nodesOf(i)[0] : undefined;
    const path = n === undefined ? "" : short(data.path(data.scope[n]).join(" / "), 160);
    const chosen = selection.length ? `${selection.length} selected` : "";
    const zoom = camera.k >= 0.1 ? Math.round(100 * camera.k) : Number((100 * camera.k).toPrecision(2));
    const key = [path, chosen, zoom, data.nodes, scene.kind.length].join("\0");
    if (key === this.told) return;
    this.told = key;
    const hidden = data.nodes - scene.shown;
    this.foot.replaceChildren(el("span", { class: "path" }, path), el("span", {}, chosen),
      el("span", {}, `${data.nodes.toLocaleString("en")} nodes${hidden ? ` (${hidden.toLocaleString("en")} folded or hidden)` : ""}`), el("span", {}, `${zoom} %`));
  }

  /** The card of an item or a tensor beside the pointer; -1 and -1: none. */
  hover(item: number, tensor: number, px = 0, py = 0) {
    const { card } = this;
    card.hidden = item < 0 && tensor < 0;
    if (card.hidden) return;
    const { scene, renderer } = this.view;
    const kind = item < 0 ? -1 : scene.kind[item];
    card.replaceChildren(...(kind === NODE ? this.ofNode(scene.ref[item]) : kind === GROUP ? this.ofModule(item)
      : this.ofTensor(item < 0 ? tensor : scene.ref[item], item < 0)));
    const { width, height } = renderer;
    card.style.left = `${Math.max(4, Math.min(px + 16, width - card.offsetWidth - 6))}px`;
    card.style.top = `${Math.max(4, py + 18 + card.offsetHeight > height ? py - card.offsetHeight - 12 : py + 18)}px`;
  }

  private ofNode(n: number): Node[] {
    const { data, coloring } = this.view;
    const rows = [el("b", {}, data.opName(n)), line(data.name(n))];
    for (const t of [...data.outputs(n)].slice(0, 4)) if (t >= 0) rows.push(line(`→ ${data.type(t) || "type not known"}`, false));
    if (data.attributes(n)) rows.push(line(data.attributes(n)));
    for (const words of coloring.words(n).split("\n").slice(0, 5)) if (words) rows.push(line(words, false));
    if (data.bodies.has(n)) rows.push(line("double click opens what is inside"));
    return rows;
  }

  private ofModule(item: number): Node[] {
    const { data, scene } = this.view;
    const nodes = scene.nodesOf(item);
    const rows = [el("b", {}, short(data.path(scene.ref[item]).join(" / "))), line(`${nodes.length} nodes`)];
    if (data.macs) rows.push(line(`${count(nodes.reduce((sum, n) => sum + (data.macs![n] || 0), 0))} MACs`));
    return [...rows, line("double click expands it")];
  }

  private ofTensor(t: number, edge: boolean): Node[] {
    const { data } = this.view;
    const from = data.producer[t];
    const users = data.consumers(t).length;
    const rows = [el("b", {}, short(data.tensor(t), 160)), line(data.type(t) || "type not known", false),
      line(`${from >= 0 ? `from ${data.opName(from)}` : "graph input"} to ${users} node${users === 1 ? "" : "s"}`)];
    return edge ? [...rows, line("click: its producer · Alt+click: its consumers")] : rows;
  }

  dispose() {
    clearTimeout(this.announcing);
  }
}

const line = (text: string, soft = true) => el("div", soft ? { class: "soft" } : {}, short(text));
