// The graph view: toolbar, canvas, map, legend, panel; what they show of a model and what of it is selected.
import { Arranger } from "./arrange";
import { LIGHT, type Theme, themeOf } from "./colors";
import { Data, unpack } from "./data";
import { el, short, tool } from "./dom";
import { Edits } from "./edits";
import { Folds } from "./folds";
import { help } from "./help";
import type { Host, State } from "./host";
import { Inspector } from "./inspector";
import { Live } from "./live";
import type { Item } from "./menu";
import { Minimap } from "./minimap";
import { Motion } from "./motion";
import { type Coloring, coloring, OVERLAYS } from "./overlay";
import { Pointer } from "./pointer";
import { Renderer } from "./render";
import { GROUP, Scene } from "./scene";
import { Search } from "./search";
import css from "./style.css";
import { Words } from "./words";

const ICONS = {
  undo: "M6 3 3 6l3 3M3 6h6a4 4 0 0 1 0 8H6", redo: "M10 3l3 3-3 3M13 6H7a4 4 0 0 0 0 8h3", history: "M8 5v3.5l2.5 1.5M14 8A6 6 0 1 1 8 2a6 6 0 0 1 6 6",
  noise: "M1.5 8C4 3.5 12 3.5 14.5 8 12 12.5 4 12.5 1.5 8M6 8a2 2 0 1 0 4 0 2 2 0 1 0-4 0M3 14 13 2", columns: "M2.5 3h3v10h-3zM6.5 3h3v10h-3zM10.5 3h3v10h-3z",
  collapse: "M4 1.5 8 5l4-3.5M4 14.5 8 11l4 3.5M2 8h12", expand: "M4 5l4-3.5L12 5M4 11l4 3.5 4-3.5M2 8h12",
  less: "M3 8h10", more: "M3 8h10M8 3v10", fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2Q8 8.8 8 10M8 12.4v.6",
};

export class View {
  readonly root: HTMLElement;
  data!: Data;
  scene!: Scene;
  renderer!: Renderer;
  state!: State;
  theme: Theme = LIGHT;
  selection: number[] = [];
  coloring!: Coloring;
  inspector?: Inspector;
  map!: Minimap;
  private arranger = new Arranger();
  private ends: (() => void)[] = [];
  // elements
  readonly canvas = el("canvas", { class: "graph", tabindex: "0", role: "application" });
  readonly stage = el("div", { class: "wbg-stage" });
  readonly legend = el("div", { class: "wbg-legend" });
  // parts
  readonly edits = new Edits(this);
  readonly live = new Live(this);
  readonly motion = new Motion(this);
  readonly words = new Words(this);
  readonly folds = new Folds(this);
  readonly search = new Search(this);
  private title = el("span", { class: "wbg-title" });
  private overlays = el("select", { "aria-label": "Colour by", title: "Colour by" });
  private worst = el("button", { title: "Step through what the colours mark, the highest value first (W)" }, "Worst");
  private noiseButton = tool("Hide noise: Identity and arithmetic on shapes (H)", ICONS.noise, () => this.folds.toggleNoise());
  private fold = tool("Collapse all modules", ICONS.collapse, () => this.folds.collapseAll());
  private columns = tool("Columns where the graph is tall, or all in one (L)", ICONS.columns, () => this.folds.toggleColumns());
  private unfold = tool("Expand all modules", ICONS.expand, () => this.folds.expandAll());
  private panel = el("aside", { class: "wbg-panel", hidden: true, "aria-label": "Inspector" });
  private undoing = tool("Undo (Ctrl+Z)", ICONS.undo, this.edits.undo);
  private redoing = tool("Redo (Ctrl+Shift+Z)", ICONS.redo, this.edits.redo);
  private pastButton = tool("History (Y)", ICONS.history, () => this.edits.toggleHistory());
  private note = el("div", { class: "wbg-note", role: "alert", hidden: true });
  private banner = el("div", { class: "wbg-banner", role: "alert", hidden: true });
  private over = el("div", { class: "wbg-over", role: "status" }, "Loading …");
  private empty = el("div", { class: "wbg-empty", hidden: true }, "The graph is empty: it has no nodes, inputs or outputs.");
  private mini = el("canvas", { class: "wbg-map", title: "Drag to move", "aria-hidden": "true" });

  constructor(readonly parent: HTMLElement, readonly host: Host) {
    this.root = el("div", { class: host.page ? "wbg page" : "wbg" });
    this.root.dataset.state = "loading";
    this.root.dataset.lmSuppressShortcuts = ""; // keys mean what they mean here, not what JupyterLab does with them
    (this.root as HTMLElement & { view?: View }).view = this; // for tests, and for a look from the console
    this.root.append(el("style", {}, css), this.toolbar());
    const { card, list, voice, foot } = this.words;
    this.stage.append(this.canvas, this.empty, this.mini, this.legend, card, list, voice, this.note);
    this.root.append(this.banner, el("div", { class: "wbg-main" }, this.edits.pane, this.stage, this.panel, this.over), foot);
    parent.append(this.root);
    this.start().catch((error: Error) => this.fail(error));
  }

  private toolbar() {
    this.overlays.addEventListener("change", () => this.recolor({ overlay: this.overlays.value }));
    this.worst.addEventListener("click", () => this.toWorst());
    const { motion } = this;
    return el("div", { class: "wbg-bar", role: "toolbar", "aria-label": "Graph" },
      this.title, this.search.field,
      el("span", { class: "gap" }), this.undoing, this.redoing, this.pastButton, this.overlays, this.worst, this.noiseButton, this.columns, this.fold, this.unfold,
      el("span", { class: "rule" }), tool("Zoom out (−)", ICONS.less, () => motion.zoom(1 / 1.4)), tool("Zoom in (+)", ICONS.more, () => motion.zoom(1.4)),
      tool("Fit: show everything (0)", ICONS.fit, () => motion.fit()), tool("Help: keyboard and mouse (?)", ICONS.help, () => this.help()));
  }

  private async start() {
    this.state = this.host.state();
    const columns = await this.host.load();
    this.data = new Data(unpack(columns));
    this.scene = await this.arrange(this.data);
    this.renderer = new Renderer(this.canvas, this.scene, this.theme);
    this.map = new Minimap(this.mini, this.renderer, (x, y) => this.motion.aim({ x, y, k: this.renderer.camera.k }, true));
    new Pointer(this);
    this.observe();
    this.readTheme(); // before anything is coloured
    this.dressed();
    this.select(this.named(this.state.selection), { quiet: true });
    this.over.hidden = true;
    this.motion.measure(); // which draws
    this.root.dataset.state = "ready";
    performance.mark("workbench-drawn");
    this.live.start();
  }

  fail(error: Error) {
    this.root.dataset.state = "failed";
    this.over.replaceChildren(el("span", { class: "wbg-bad", role: "alert" }, `The graph cannot be shown: ${error.message}`));
    this.over.hidden = false;
  }

  /** What belongs to a model once it is there. */
  dressed() {
    this.title.textContent = short(this.data.head.name, 80);
    this.title.title = short(this.data.head.name, 400);
    this.canvas.setAttribute("aria-label", `Graph of ${short(this.data.head.name, 80)}, ${this.data.nodes} nodes`);
    const scoped = this.data.head.scopes.length > 1;
    this.fold.hidden = this.unfold.hidden = !scoped;
    this.inspector ??= new Inspector(this.panel, this.data, this.host, {
      go: (nodes) => this.go(nodes), goTensor: (t) => this.goTensor(t), select: (nodes) => this.select([...nodes]),
      close: () => this.select([]), toggle: (n) => void this.folds.toggle(n), isOpen: (n) => this.folds.opened.has(n),
      value: (n) => this.coloring.words(n),
    }, this.edits);
    this.inspector.data = this.data;
    for (const button of [this.undoing, this.redoing, this.pastButton]) button.hidden = !this.edits.able;
    this.recolor({});
  }

  private observe() {
    const resized = new ResizeObserver(() => this.motion.measure());
    resized.observe(this.stage);
    const themed = new MutationObserver(() => this.readTheme());
    for (const node of [document.documentElement, document.body])
      themed.observe(node, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light", "data-jp-theme-name", "data-theme", "data-vscode-theme-kind"] });
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => this.readTheme();
    media.addEventListener("change", changed);
    this.ends.push(() => resized.disconnect(), () => themed.disconnect(), () => media.removeEventListener("change", changed));
    this.host.onChange("state", () => this.outside());
    this.host.onChange("data", () => this.live.reload());
    this.host.onTrouble?.((text, gone) => {
      this.banner.textContent = text;
      this.banner.hidden = !text;
      this.root.classList.toggle("gone", gone);
      this.renderer && this.motion.measure();
    });
    this.stage.addEventListener("contextmenu", (event) => this.contextmenu(event));
  }

  dispose() {
    for (const part of [this.live, this.motion, this.words]) part.dispose();
    for (const end of this.ends) end();
    this.root.remove();
  }

  // --- scenes

  /** A scene of the data; `nodes` has the numbers that its nodes have in the one shown, where they are others. */
  async arrange(data: Data, nodes?: Int32Array): Promise<Scene> {
    const before = this.scene as Scene | undefined;
    const scene = new Scene(data, this.folds.choice, before && { scene: before, nodes });
    scene.finish(await this.arranger.place(scene));
    return scene;
  }

  /** Arranges again; a node (else what is in the middle) stays on the screen. */
  async rearrange(anchor = -1) {
    const before = this.scene;
    this.follow(before, await this.arrange(this.data), anchor);
    this.recolor({});
    this.mark();
    this.motion.redraw();
  }

  /** Goes on from a scene to the next: the place of a node of the first (else the middle) stays where it is. */
  follow(before: Scene, scene: Scene, anchor: number) {
    const { renderer } = this;
    const focus = before.itemOf[anchor] ?? -1;
    const [x, y] = focus >= 0 ? [before.x[focus], before.y[focus]] : [renderer.camera.x, renderer.camera.y];
    let [near, dx, dy] = [Infinity, 0, 0];
    scene.was.forEach((was, i) => {
      const far = was < 0 ? Infinity : Math.abs(before.x[was] - x) + Math.abs(before.y[was] - y);
      if (far < near) [near, dx, dy] = [far, scene.x[i] - before.x[was], scene.y[i] - before.y[was]];
    });
    this.scene = scene;
    renderer.take(scene);
    for (const camera of this.motion.cameras) {
      camera.x += dx;
      camera.y += dy;
    }
  }

  named(names: readonly string[]): number[] {
    if (!names.length) return [];
    const wanted = new Set(names);
    return this.data.head.nodes.flatMap((name, n) => (wanted.has(name) ? [n] : []));
  }

  // --- looks

  private readTheme() {
    this.theme = themeOf(document);
    this.root.classList.toggle("dark", this.theme.dark);
    this.root.style.setProperty("--bg", this.theme.back);
    if (!this.renderer) return;
    this.renderer.theme = this.theme;
    if (this.coloring) this.recolor({});
    this.motion.redraw();
  }

  recolor(change: Partial<Pick<State, "overlay">>, tell = true) {
    Object.assign(this.state, change);
    if (tell && change.overlay) this.host.set({ overlay: change.overlay });
    this.coloring = coloring(this.data, this.scene, this.state, this.theme);
    this.renderer.paint(this.coloring.color);
    this.legend.replaceChildren(this.coloring.legend(this.scene));
    this.legend.hidden = !this.data.nodes;
    this.empty.hidden = this.scene.kind.length > 0;
    this.columns.hidden = this.folds.wrap && !this.scene.wrapped;
    this.columns.setAttribute("aria-pressed", String(this.folds.wrap));
    this.renderer.mark = this.coloring.mark;
    this.worst.hidden = !this.coloring.targets;
    this.worst.textContent = this.state.overlay === "origin" || this.coloring.mark ? "Next" : "Worst";
    const rows = OVERLAYS.filter(([name]) => name !== "origin" || this.data.made);
    if (this.state.values) rows.push(["values", this.state.values.header.title]);
    this.overlays.replaceChildren(...rows.map(([value, label]) => {
      const wait = (value === "macs" && !this.data.macs) || (value === "bytes" && !this.data.bytes);
      return el("option", { value, disabled: wait }, wait ? `${label} …` : label);
    }));
    this.overlays.value = this.state.overlay;
    this.noiseButton.setAttribute("aria-pressed", String(this.state.hide.length > 0));
    this.map.stale = true;
    this.motion.redraw();
  }

  outside() {
    if (this.live.busy) return;
    const next = this.host.state();
    const hide = next.hide.join() !== this.state.hide.join();
    const selected = this.selection.map((n) => this.data.name(n)).join("\0") !== next.selection.join("\0");
    const same = JSON.stringify([next.overlay, next.values?.header]) === JSON.stringify([this.state.overlay, this.state.values?.header]) && next.values?.numbers.length === this.state.values?.numbers.length && (next.values?.numbers ?? []).every((v, i) => Object.is(v, this.state.values!.numbers[i]));
    this.state = next;
    if (hide) void this.rearrange();
    else if (!same) this.recolor({}, false);
    if (!selected) return;
    this.select(this.named(next.selection), { quiet: true });
    if (this.selection.length) this.motion.show(this.selection);
  }

  // --- selection

  select(nodes: number[], { quiet = false, add = false } = {}) {
    this.selection = add ? toggled(this.selection, nodes) : [...new Set(nodes)];
    if (!quiet) this.host.set({ selection: this.selection.slice(0, 5000).map((n) => this.data.name(n)) });
    this.inspector!.show(this.selection);
    this.mark();
    this.words.later();
    this.motion.redraw();
  }

  mark(hover = -1, tensor = -1) {
    const { renderer, scene, theme } = this;
    renderer.marked.fill(0);
    for (const n of this.search.results) if (scene.itemOf[n] >= 0) renderer.marked[scene.itemOf[n]] |= 2;
    for (const n of this.selection) if (scene.itemOf[n] >= 0) renderer.marked[scene.itemOf[n]] |= 1;
    renderer.hotTensors.clear();
    if (this.selection.length <= 60)
      for (const n of this.selection) {
        for (const t of this.data.inputs(n)) if (t >= 0) renderer.hotTensors.set(t, theme.into);
        for (const t of this.data.outputs(n)) if (t >= 0) renderer.hotTensors.set(t, theme.out);
      }
    if (tensor >= 0) renderer.hotTensors.set(tensor, theme.ink);
    if (hover >= 0) renderer.marked[hover] |= 4;
    renderer.faded = this.search.results.length > 0 || this.selection.length > 1;
  }

  go(nodes: number[]) {
    void this.folds.reveal(nodes).then(() => {
      this.select(nodes);
      this.motion.measure(); // the panel may have come: the middle is another place
      this.motion.show(nodes);
    });
  }

  goTensor(tensor: number) {
    const item = this.scene.kind.findIndex((kind, i) => kind > GROUP && this.scene.ref[i] === tensor);
    if (item >= 0) this.motion.showItems([item]);
  }

  /** Opens what hides these nodes: bodies and hidden noise (a collapsed module stands for its nodes). */
  toWorst() {
    const list = this.coloring.targets?.() ?? [];
    const now = this.selection.length === 1 ? list.indexOf(this.selection[0]) : -1;
    if (list.length) this.go([list[(now + 1) % list.length]]);
  }

  // --- what is told over the graph

  /** Tells something over the graph, until Escape or the next edit; with what can be done about it. */
  tell(text: string, hint?: Item) {
    const shut = () => this.tell("");
    this.note.hidden = !text;
    const more = hint ? [el("button", { click: () => {
      shut();
      hint.act();
    } }, hint.label)] : [];
    this.note.replaceChildren(el("span", {}, text), ...more, el("button", { class: "close", "aria-label": "Dismiss", click: shut }, "×"));
  }

  /** The panel for a tensor. */
  inspect(t: number) {
    this.select([]);
    this.inspector!.tensor(t);
  }

  private contextmenu(event: MouseEvent) {
    if (event.target !== this.canvas) return;
    event.preventDefault();
    event.stopPropagation();
    const [stage, root] = [this.canvas.getBoundingClientRect(), this.root.getBoundingClientRect()];
    const [x, y] = [event.clientX - stage.left, event.clientY - stage.top];
    const item = this.renderer.itemAt(x, y);
    this.words.hover(-1, -1);
    this.edits.menu(event.clientX - root.left, event.clientY - root.top, item, item < 0 ? this.renderer.edges.at(x, y) : -1);
  }
  help() {
    help(this.root, this.edits.able);
  }
}

function toggled(list: number[], more: number[]): number[] {
  const all = more.every((n) => list.includes(n));
  const set = new Set(list);
  for (const n of more) {
    if (all) set.delete(n);
    else set.add(n);
  }
  return [...set];
}
