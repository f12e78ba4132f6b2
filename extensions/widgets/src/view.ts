// The graph view: toolbar, canvas, map, legend, panel; mouse, keyboard, screen reader.
import { DARK, LIGHT, type Theme } from "./colors";
import { Data, unpack } from "./data";
import { count, el, icon, short } from "./dom";
import type { Host, State } from "./host";
import { Edits } from "./edits";
import { help } from "./help";
import { Inspector } from "./inspector";
import { Live } from "./live";
import type { Item } from "./menu";
import { Minimap } from "./minimap";
import { type Coloring, coloring, OVERLAYS } from "./overlay";
import type { place, Placed } from "./place";
import { Pointer } from "./pointer";
import { type Camera, NEAR, Renderer } from "./render";
import { GROUP, NODE, Scene } from "./scene";
import css from "./style.css";
import workerText from "worker:./worker.ts";

// The layout is in the bundle once, as text: what the worker runs, and what this page imports (at once, so that a first
// graph need not wait for it).
const layoutUrl = URL.createObjectURL(new Blob([workerText], { type: "text/javascript" }));
const here = import(/* @vite-ignore */ layoutUrl).then(() => (self as unknown as { workbenchPlace: typeof place }).workbenchPlace);
here.catch(() => {}); // told where it is used
const placeHere = async (levels: Scene["levels"]): Promise<Placed> => (await here)(levels);
const REST = 700; // ms without a change after which the picture is at rest
const AT_ONCE = 12000; // items up to which the page itself is quicker than a worker: it is there, and nothing is copied

const ICONS = {
  undo: "M6 3 3 6l3 3M3 6h6a4 4 0 0 1 0 8H6", redo: "M10 3l3 3-3 3M13 6H7a4 4 0 0 0 0 8h3", history: "M8 5v3.5l2.5 1.5M14 8A6 6 0 1 1 8 2a6 6 0 0 1 6 6",
  noise: "M1.5 8C4 3.5 12 3.5 14.5 8 12 12.5 4 12.5 1.5 8M6 8a2 2 0 1 0 4 0 2 2 0 1 0-4 0M3 14 13 2", columns: "M2.5 3h3v10h-3zM6.5 3h3v10h-3zM10.5 3h3v10h-3z",
  collapse: "M4 1.5 8 5l4-3.5M4 14.5 8 11l4 3.5M2 8h12", expand: "M4 5l4-3.5L12 5M4 11l4 3.5 4-3.5M2 8h12", up: "M4 10l4-4 4 4", down: "M4 6l4 4 4-4",
  less: "M3 8h10", more: "M3 8h10M8 3v10", fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2Q8 8.8 8 10M8 12.4v.6",
};
const tool = (title: string, path: string, act: () => void) => el("button", { class: "tool", title, "aria-label": title, click: act }, icon(path));

export class View {
  readonly root: HTMLElement;
  data!: Data;
  scene!: Scene;
  renderer!: Renderer;
  state!: State;
  theme: Theme = LIGHT;
  selection: number[] = [];
  results: number[] = [];
  private at = -1;
  collapsed = new Set<string>();
  opened = new Set<number>();
  readonly edits = new Edits(this);
  readonly live = new Live(this);
  private wrap = true;
  private coloring!: Coloring;
  inspector?: Inspector;
  private map!: Minimap;
  private target?: Camera;
  private frame = 0;
  private stale = false;
  private worker?: Worker;
  private jobs = new Map<number, { done: (p: Placed) => void; failed: (e: Error) => void }>();
  private job = 0;
  private ends: (() => void)[] = [];
  // elements
  readonly canvas = el("canvas", { class: "graph", tabindex: "0", role: "application" });
  readonly stage = el("div", { class: "wbg-stage" });
  readonly card = el("div", { class: "wbg-card", hidden: true });
  private title = el("span", { class: "wbg-title" });
  private search = el("input", { type: "search", placeholder: "Search", title: "Names, operators, tensors, attributes, shapes, data types (/)", "aria-label": "Search the graph", spellcheck: "false" });
  private counter = el("span", { class: "wbg-count", "aria-live": "polite" });
  private steps = el("div", { class: "wbg-steps", hidden: true });
  private overlays = el("select", { "aria-label": "Colour by", title: "Colour by" });
  private worst = el("button", { title: "Step through what the colours mark, the highest value first (W)" }, "Worst");
  private noiseButton = tool("Hide noise: Identity and arithmetic on shapes (H)", ICONS.noise, () => this.toggleNoise());
  private fold = tool("Collapse all modules", ICONS.collapse, () => this.collapseAll());
  private columns = tool("Columns where the graph is tall, or all in one (L)", ICONS.columns, () => this.toggleColumns());
  private unfold = tool("Expand all modules", ICONS.expand, () => this.expandAll());
  private legend = el("div", { class: "wbg-legend" });
  private panel = el("aside", { class: "wbg-panel", hidden: true, "aria-label": "Inspector" });
  private undoing = tool("Undo (Ctrl+Z)", ICONS.undo, this.edits.undo);
  private redoing = tool("Redo (Ctrl+Shift+Z)", ICONS.redo, this.edits.redo);
  private pastButton = tool("History (Y)", ICONS.history, () => this.edits.toggleHistory());
  private note = el("div", { class: "wbg-note", role: "alert", hidden: true });
  private banner = el("div", { class: "wbg-banner", role: "alert", hidden: true });
  private over = el("div", { class: "wbg-over", role: "status" }, "Loading …");
  private foot = el("div", { class: "wbg-foot" });
  private empty = el("div", { class: "wbg-empty", hidden: true }, "The graph is empty: it has no nodes, inputs or outputs.");
  private list = el("ul", { class: "wbg-hidden", role: "listbox", "aria-label": "Nodes", tabindex: "-1" });
  private voice = el("div", { class: "wbg-hidden", "aria-live": "polite" });

  constructor(readonly parent: HTMLElement, readonly host: Host) {
    this.root = el("div", { class: host.page ? "wbg page" : "wbg" });
    this.root.dataset.state = "loading";
    this.root.dataset.lmSuppressShortcuts = ""; // keys mean what they mean here, not what JupyterLab does with them
    (this.root as HTMLElement & { view?: View }).view = this; // for tests, and for a look from the console
    this.root.append(el("style", {}, css), this.toolbar());
    const mini = el("canvas", { class: "wbg-map", title: "Drag to move", "aria-hidden": "true" });
    this.stage.append(this.canvas, this.empty, mini, this.legend, this.card, this.list, this.voice, this.note);
    this.root.append(this.banner, el("div", { class: "wbg-main" }, this.edits.pane, this.stage, this.panel, this.over), this.foot);
    parent.append(this.root);
    this.mini = mini;
    this.start().catch((error: Error) => this.fail(error));
  }

  private mini: HTMLCanvasElement;

  private toolbar() {
    this.search.addEventListener("input", () => this.find());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") {
        this.search.value = "";
        this.find();
        this.canvas.focus();
      } else return;
      event.preventDefault();
    });
    this.overlays.addEventListener("change", () => this.recolor({ overlay: this.overlays.value }));
    this.worst.addEventListener("click", () => this.toWorst());
    this.columns.setAttribute("aria-pressed", "true");
    this.steps.append(this.counter, tool("Previous result (Shift+Enter)", ICONS.up, () => this.step(-1)), tool("Next result (Enter)", ICONS.down, () => this.step(1)));
    return el("div", { class: "wbg-bar", role: "toolbar", "aria-label": "Graph" },
      this.title,
      el("div", { class: "wbg-search", role: "search" }, this.search, this.steps),
      el("span", { class: "gap" }), this.undoing, this.redoing, this.pastButton, this.overlays, this.worst, this.noiseButton, this.columns, this.fold, this.unfold,
      el("span", { class: "rule" }), tool("Zoom out (−)", ICONS.less, () => this.zoom(1 / 1.4)), tool("Zoom in (+)", ICONS.more, () => this.zoom(1.4)),
      tool("Fit: show everything (0)", ICONS.fit, () => this.fit()), tool("Help: keyboard and mouse (?)", ICONS.help, () => this.help()));
  }

  private async start() {
    this.state = this.host.state();
    const columns = await this.host.load();
    if (columns.byteLength > 1_500_000) this.begin(); // it starts while the page reads
    this.data = new Data(unpack(columns));
    this.scene = await this.arrange(this.data);
    this.renderer = new Renderer(this.canvas, this.scene, this.theme);
    this.map = new Minimap(this.mini, this.renderer, (x, y) => this.aim({ x, y, k: this.renderer.camera.k }, true));
    new Pointer(this);
    this.observe();
    this.readTheme(); // before anything is coloured
    this.dressed();
    this.measure();
    this.look();
    this.select(this.named(this.state.selection), { quiet: true });
    this.over.hidden = true;
    this.renderNow();
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
      close: () => this.select([]), toggle: (n) => void this.toggle(n), isOpen: (n) => this.opened.has(n),
      value: (n) => this.coloring.words(n),
    }, this.edits);
    this.inspector.data = this.data;
    for (const button of [this.undoing, this.redoing, this.pastButton]) button.hidden = !this.edits.able;
    this.recolor({});
  }

  private observe() {
    const resized = new ResizeObserver(() => this.measure());
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
      this.renderer && this.measure();
    });
    this.stage.addEventListener("contextmenu", (event) => this.contextmenu(event));
  }

  dispose() {
    clearTimeout(this.settled);
    clearTimeout(this.announcing);
    clearTimeout(this.telling);
    cancelAnimationFrame(this.frame);
    this.live.dispose();
    this.worker?.terminate();
    for (const end of this.ends) end();
    this.root.remove();
  }

  // --- places

  /** A scene of the data; `nodes` has the numbers that its nodes have in the one shown, where they are others. */
  async arrange(data: Data, nodes?: Int32Array): Promise<Scene> {
    const before = this.scene as Scene | undefined;
    const choice = { collapsed: this.collapsed, opened: this.opened, hide: this.state.hide, wrap: this.wrap };
    const scene = new Scene(data, choice, before && { scene: before, nodes });
    // what is drawn has not changed by a rename or an attribute
    const placed = before && scene.alike(before) ? before.placed!
      : scene.kind.length < AT_ONCE ? await placeHere(scene.levels) : await this.placeAside(scene);
    scene.finish(placed.out, placed.sizes);
    return scene;
  }

  /** The worker; undefined on a page whose policy forbids it. */
  private begin(): Worker | undefined {
    if (this.worker) return this.worker;
    try {
      this.worker = new Worker(layoutUrl);
    } catch {
      return undefined;
    }
    this.worker.onmessage = ({ data }) => {
      const job = this.jobs.get(data.id);
      this.jobs.delete(data.id);
      if (data.error) job?.failed(new Error(data.error));
      else job?.done(data.placed);
    };
    this.worker.onerror = () => {
      for (const job of this.jobs.values()) job.failed(new Error("the layout worker could not start"));
      this.jobs.clear();
    };
    return this.worker;
  }

  private placeAside(scene: Scene): Promise<Placed> {
    const worker = this.begin();
    if (!worker) return placeHere(scene.levels);
    const id = ++this.job;
    return new Promise((done, failed) => {
      this.jobs.set(id, { done, failed });
      worker.postMessage({ id, levels: scene.levels });
    });
  }

  /** Arranges again; a node (else what is in the middle) stays on the screen. */
  async rearrange(anchor = -1) {
    const before = this.scene;
    this.follow(before, await this.arrange(this.data), anchor);
    this.recolor({});
    this.mark();
    this.redraw();
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
    for (const camera of [renderer.camera, ...(this.target ? [this.target] : [])]) {
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
    const { body } = document;
    const stated = document.documentElement.dataset.theme;
    const jupyter = body.dataset.jpThemeLight;
    const kind = body.dataset.vscodeThemeKind ?? "";
    const dark = stated ? stated === "dark" : jupyter ? jupyter === "false" : kind ? kind.includes("dark") : matchMedia("(prefers-color-scheme: dark)").matches;
    this.root.classList.toggle("dark", dark);
    const base = dark ? DARK : LIGHT;
    const own = getComputedStyle(body).getPropertyValue("--jp-layout-color0").trim();
    const full = /^#[0-9a-f]{3}$/i.test(own) ? `#${[...own.slice(1)].map((c) => c + c).join("")}` : own;
    const back = /^#[0-9a-f]{6}$/i.test(full) ? full : base.back;
    this.root.style.setProperty("--bg", back);
    this.theme = { ...base, back, halo: back };
    if (!this.renderer) return;
    this.renderer.theme = this.theme;
    if (this.coloring) this.recolor({});
    this.redraw();
  }

  recolor(change: Partial<Pick<State, "overlay">>, tell = true) {
    Object.assign(this.state, change);
    if (tell && change.overlay) this.host.set({ overlay: change.overlay });
    this.coloring = coloring(this.data, this.scene, this.state, this.theme);
    this.renderer.color = this.coloring.color;
    this.legend.replaceChildren(this.coloring.legend(this.scene));
    this.legend.hidden = !this.data.nodes;
    this.empty.hidden = this.scene.kind.length > 0;
    this.columns.hidden = this.wrap && !this.wrapped;
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
    this.redraw();
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
    if (this.selection.length) this.show(this.selection);
  }

  // --- camera

  measure() {
    const { clientWidth, clientHeight } = this.stage;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.renderer;
    if (!clientWidth || !clientHeight || (clientWidth === width && clientHeight === height && ratio === this.renderer.ratio)) return;
    const first = !width;
    // what is on the screen stays where it is when the panel comes or goes
    for (const camera of first ? [] : [this.renderer.camera, ...(this.target ? [this.target] : [])]) {
      camera.x += (clientWidth - width) / 2 / camera.k;
      camera.y += (clientHeight - height) / 2 / camera.k;
    }
    this.renderer.resize(clientWidth, clientHeight, ratio);
    this.map.stale = true;
    if (first) this.look();
    this.renderNow();
  }

  /** First sight: all of it when that can be read, else the beginning. */
  private look() {
    const { renderer, scene } = this;
    if (!renderer.width) return;
    const whole = this.whole();
    if (whole.k >= 0.3) Object.assign(renderer.camera, whole);
    else {
      const k = Math.max(0.3, Math.min(0.8, (renderer.width * 0.8) / Math.max(1, scene.width)));
      const x = this.wrapped ? renderer.width / 2 / k - 26 / k : this.middle();
      Object.assign(renderer.camera, { k, x, y: renderer.height / 2 / k - 26 / k });
    }
  }

  private middle(): number {
    const { scene } = this;
    const last = scene.parts[scene.parts.length - 1];
    let least = last.first;
    for (let i = last.first; i < scene.kind.length; i++) if (scene.y[i] < scene.y[least]) least = i;
    return scene.width * this.renderer.width < scene.width ? scene.x[least] : scene.x[least] ?? scene.width / 2;
  }

  private whole(): Camera {
    const { scene, renderer } = this;
    const foot = this.wrapped ? this.legend.offsetHeight : 0; // columns fill the view: the legend must not hide their ends
    const k = Math.min(1.15, (renderer.width - 48) / Math.max(1, scene.width), (renderer.height - 48 - foot) / Math.max(1, scene.height));
    return { x: scene.width / 2, y: scene.height / 2 + foot / 2 / k, k };
  }

  fit() {
    this.aim(this.whole());
  }

  aim(camera: Camera, now = false) {
    this.card.hidden = true; // what it tells of moves away
    const least = Math.min(0.02, this.whole().k * 0.6);
    const next = { ...camera, k: Math.max(least, Math.min(4, camera.k)) };
    if (now || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      Object.assign(this.renderer.camera, next);
      this.target = undefined;
    } else this.target = next;
    this.redraw();
  }

  get goal(): Camera {
    return this.target ?? this.renderer.camera;
  }

  zoom(factor: number, px = this.renderer.width / 2, py = this.renderer.height / 2) {
    const { x, y, k } = this.goal;
    const least = Math.min(0.02, this.whole().k * 0.6);
    const next = Math.max(least, Math.min(4, k * factor));
    const [dx, dy] = [px - this.renderer.width / 2, py - this.renderer.height / 2];
    this.aim({ x: x + dx / k - dx / next, y: y + dy / k - dy / next, k: next });
  }

  /** Brings nodes into view. */
  show(nodes: number[]) {
    const items = nodes.map((n) => this.scene.itemOf[n]).filter((i) => i >= 0);
    if (items.length) this.showItems(items);
  }

  private showItems(items: number[]) {
    const { scene, renderer } = this;
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const i of items) {
      x0 = Math.min(x0, scene.x[i] - scene.w[i] / 2);
      x1 = Math.max(x1, scene.x[i] + scene.w[i] / 2);
      y0 = Math.min(y0, scene.y[i]);
      y1 = Math.max(y1, scene.y[i] + scene.h[i]);
    }
    const room = Math.min((renderer.width - 120) / (x1 - x0), (renderer.height - 120) / (y1 - y0));
    const k = Math.min(Math.max(renderer.camera.k, 0.85), Math.max(0.001, room));
    this.aim({ x: (x0 + x1) / 2, y: (y0 + y1) / 2, k });
  }

  redraw() {
    this.stale = true;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.tick());
  }

  private tick() {
    this.frame = 0;
    const { camera } = this.renderer;
    if (this.target) {
      const t = this.target;
      const ease = 0.28;
      // zooming keeps the place under the pointer: what is interpolated is the screen, so k by its logarithm
      const k = camera.k * (t.k / camera.k) ** ease;
      const part = Math.abs(t.k - camera.k) < 1e-6 * t.k ? ease : (1 / camera.k - 1 / k) / (1 / camera.k - 1 / t.k);
      camera.x += (t.x - camera.x) * part;
      camera.y += (t.y - camera.y) * part;
      camera.k = k;
      if (Math.abs(Math.log(t.k / k)) < 0.002 && Math.hypot(t.x - camera.x, t.y - camera.y) * k < 0.4) {
        Object.assign(camera, t);
        this.target = undefined;
      }
      this.stale = true;
    }
    if (this.stale) this.renderNow();
    if (this.target) this.redraw();
  }

  private renderNow() {
    this.stale = false;
    if (!this.renderer?.width) return;
    this.renderer.draw();
    this.map.draw(this.theme);
    this.seen = performance.now();
    this.telling ||= window.setTimeout(() => this.status(), 60); // not in every frame
    if (this.host.see) this.settled ||= window.setTimeout(() => this.rest(), REST);
  }

  private seen = 0; // when it was drawn last
  private telling = 0;
  private settled = 0;
  /** Gives the kernel the picture when it rests, for to_svg. */
  private rest() {
    const left = this.seen + REST - performance.now();
    this.settled = left > 0 ? window.setTimeout(() => this.rest(), left) : 0;
    if (left <= 0 && this.renderer.drawn <= 4000 && this.root.isConnected) this.host.see!(this.renderer.svg(`Graph of ${short(this.data.head.name, 80)}`));
  }

  private lastStatus = "";
  private status() {
    this.telling = 0;
    const { camera } = this.renderer;
    const i = camera.k > 0.15 ? this.renderer.itemAt(this.renderer.width / 2, this.renderer.height / 2) : -1;
    const n = i >= 0 ? this.scene.nodesOf(i)[0] : undefined;
    const path = n === undefined ? "" : short(this.data.path(this.data.scope[n]).join(" / "), 160);
    const chosen = this.selection.length ? `${this.selection.length} selected` : "";
    const zoom = camera.k >= 0.1 ? Math.round(100 * camera.k) : Number((100 * camera.k).toPrecision(2));
    const key = [path, chosen, zoom, this.data.nodes, this.scene.kind.length].join("\0");
    if (key === this.lastStatus) return;
    this.lastStatus = key;
    const hidden = this.data.nodes - this.scene.shown;
    this.foot.replaceChildren(el("span", { class: "path" }, path), el("span", {}, chosen),
      el("span", {}, `${this.data.nodes.toLocaleString("en")} nodes${hidden ? ` (${hidden.toLocaleString("en")} folded or hidden)` : ""}`), el("span", {}, `${zoom} %`));
  }

  // --- selection

  select(nodes: number[], { quiet = false, add = false } = {}) {
    this.selection = add ? toggled(this.selection, nodes) : [...new Set(nodes)];
    if (!quiet) this.host.set({ selection: this.selection.slice(0, 5000).map((n) => this.data.name(n)) });
    this.inspector!.show(this.selection);
    this.mark();
    clearTimeout(this.announcing);
    this.announcing = window.setTimeout(() => this.announce()); // after the picture
    this.redraw();
  }

  mark(hover = -1, tensor = -1) {
    const { renderer, scene, theme } = this;
    renderer.marked.fill(0);
    for (const n of this.results) if (scene.itemOf[n] >= 0) renderer.marked[scene.itemOf[n]] |= 2;
    for (const n of this.selection) if (scene.itemOf[n] >= 0) renderer.marked[scene.itemOf[n]] |= 1;
    renderer.hotTensors.clear();
    if (this.selection.length <= 60)
      for (const n of this.selection) {
        for (const t of this.data.inputs(n)) if (t >= 0) renderer.hotTensors.set(t, theme.into);
        for (const t of this.data.outputs(n)) if (t >= 0) renderer.hotTensors.set(t, theme.out);
      }
    if (tensor >= 0) renderer.hotTensors.set(tensor, theme.ink);
    if (hover >= 0) renderer.marked[hover] |= 4;
    renderer.faded = this.results.length > 0 || this.selection.length > 1;
  }

  go(nodes: number[]) {
    void this.reveal(nodes).then(() => {
      this.select(nodes);
      this.measure(); // the panel may have come: the middle is another place
      this.show(nodes);
    });
  }

  goTensor(tensor: number) {
    const item = this.scene.kind.findIndex((kind, i) => kind > GROUP && this.scene.ref[i] === tensor);
    if (item >= 0) this.showItems([item]);
  }

  /** Opens what hides these nodes: bodies and hidden noise (a collapsed module stands for its nodes). */
  private async reveal(nodes: number[]) {
    let changed = false;
    for (const n of nodes) {
      for (let g = this.data.home[n]; this.data.head.graphs[g].owner >= 0; g = this.data.home[this.data.head.graphs[g].owner]) {
        const { owner } = this.data.head.graphs[g];
        if (!this.opened.has(owner)) changed = true;
        this.opened.add(owner);
      }
      if (this.scene.itemOf[n] < 0 && this.state.hide.length && !changed) {
        this.state.hide = [];
        this.host.set({ hide: [] });
        changed = true;
      }
    }
    if (changed) await this.rearrange();
  }

  find(move = true) {
    this.results = this.data.search(this.search.value);
    this.at = -1;
    this.steps.hidden = !this.search.value.trim();
    this.counter.textContent = this.search.value.trim() ? (this.results.length ? `${this.results.length} found` : "none") : "";
    this.mark();
    this.map.stale = true;
    this.redraw();
    if (move && this.results.length) this.show([this.results[0]]);
  }

  step(by: number) {
    if (!this.results.length) return;
    this.at = (Math.max(this.at, by < 0 ? 0 : -1) + by + this.results.length) % this.results.length;
    this.counter.textContent = `${this.at + 1} / ${this.results.length}`;
    this.go([this.results[this.at]]);
  }

  toWorst() {
    const list = this.coloring.targets?.() ?? [];
    const now = this.selection.length === 1 ? list.indexOf(this.selection[0]) : -1;
    if (list.length) this.go([list[(now + 1) % list.length]]);
  }

  toggleNoise() {
    this.state.hide = this.state.hide.length ? [] : ["identity", "shape"];
    this.host.set({ hide: this.state.hide });
    void this.rearrange();
  }

  private get wrapped(): boolean {
    return this.scene.column.some((c) => c > 0);
  }

  toggleColumns() {
    this.wrap = !this.wrap;
    this.columns.setAttribute("aria-pressed", String(this.wrap));
    void this.rearrange().then(() => this.fit());
  }

  // --- modules and bodies

  async toggle(node: number) {
    if (!this.opened.delete(node)) this.opened.add(node);
    await this.rearrange(node);
    if (this.selection.length === 1) this.inspector!.show(this.selection);
  }

  /** Enter or double click on an item. */
  async activate(item: number) {
    const { scene } = this;
    if (scene.kind[item] === GROUP) {
      const key = scene.scopeKey.get(item)!;
      const members = scene.nodesOf(item);
      this.collapsed.delete(key);
      // its inner modules stay folded when they are many
      const inner = new Set(members.map((n) => this.child(this.data.scope[n], Number(key.split(":")[1]))).filter((s) => s > 0));
      if (inner.size > 1 && members.length > 40) for (const s of inner) this.collapsed.add(`${key.split(":")[0]}:${s}`);
      await this.rearrange();
      this.show(members);
    } else if (scene.kind[item] === NODE && this.data.bodies.has(scene.ref[item])) await this.toggle(scene.ref[item]);
    else this.showItems([item]);
  }

  private child(scope: number, above: number): number {
    let s = scope;
    while (s > 0 && this.data.head.scopes[s][0] !== above) s = this.data.head.scopes[s][0];
    return s;
  }

  async collapse(key: string) {
    this.collapsed.add(key);
    await this.rearrange();
    const item = this.scene.kind.findIndex((_, i) => this.scene.scopeKey.get(i) === key);
    if (item >= 0) this.showItems([item]);
  }

  collapseAll() {
    const size = new Map<number, number>();
    for (let n = 0; n < this.data.nodes; n++) {
      const s = this.child(this.data.scope[n], 0);
      if (s > 0) size.set(s, (size.get(s) ?? 0) + 1);
    }
    this.collapsed = new Set([...size].filter(([, k]) => k > 1).map(([s]) => `0:${s}`));
    void this.rearrange().then(() => this.fit());
  }

  expandAll() {
    this.collapsed.clear();
    void this.rearrange().then(() => this.look()).then(() => this.redraw());
  }

  // --- words

  describe(n: number): string {
    const { data } = this;
    const to = [...new Set([...data.outputs(n)].filter((t) => t >= 0).flatMap((t) => [...data.consumers(t)]))];
    return short(`${data.opName(n)}, ${data.name(n)}, ${[...data.outputs(n)].filter((t) => t >= 0).map((t) => data.type(t)).join(" and ")}, to ${to.slice(0, 4).map((u) => data.opName(u)).join(", ") || "the output"}`, 400);
  }

  private announcing = 0;
  /** The screen reader's list: the nodes around the selected one. */
  private announce() {
    const here = this.selection[0] ?? 0;
    const from = Math.max(0, here - 20);
    const rows: HTMLElement[] = [];
    for (let n = from; n < Math.min(this.data.nodes, from + 40); n++)
      rows.push(el("li", {
        role: "option", "aria-posinset": String(n + 1), "aria-setsize": String(this.data.nodes),
        "aria-selected": String(this.selection.includes(n)), click: () => this.go([n]),
      }, this.describe(n)));
    this.list.replaceChildren(...rows);
    this.say(this.selection.length === 1 ? this.describe(here) : this.selection.length ? `${this.selection.length} nodes selected` : "");
  }

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
    this.hover(-1, -1, 0, 0);
    this.edits.menu(event.clientX - root.left, event.clientY - root.top, item, item < 0 ? this.renderer.tensorAt(x, y) : -1);
  }

  say(text: string) {
    this.voice.textContent = text;
  }

  hover(item: number, tensor: number, px: number, py: number) {
    const { data, scene, card } = this;
    card.hidden = item < 0 && tensor < 0;
    if (card.hidden) return;
    const rows: (Node | null)[] = [];
    const line = (text: string, soft = true) => el("div", soft ? { class: "soft" } : {}, short(text));
    if (item >= 0 && scene.kind[item] === NODE) {
      const n = scene.ref[item];
      rows.push(el("b", {}, data.opName(n)), line(data.name(n)));
      for (const t of [...data.outputs(n)].slice(0, 4)) if (t >= 0) rows.push(line(`→ ${data.type(t) || "type not known"}`, false));
      if (data.attributes(n)) rows.push(line(data.attributes(n)));
      for (const words of this.coloring.words(n).split("\n").slice(0, 5)) if (words) rows.push(line(words, false));
      if (data.bodies.has(n)) rows.push(line("double click opens what is inside"));
    } else if (item >= 0 && scene.kind[item] === GROUP) {
      const nodes = scene.nodesOf(item);
      rows.push(el("b", {}, short(data.path(scene.ref[item]).join(" / "))), line(`${nodes.length} nodes`));
      if (data.macs) rows.push(line(`${count(nodes.reduce((sum, n) => sum + (data.macs![n] || 0), 0))} MACs`));
      rows.push(line("double click expands it"));
    } else {
      const t = item >= 0 ? scene.ref[item] : tensor;
      const from = data.producer[t];
      const users = data.consumers(t).length;
      rows.push(el("b", {}, short(data.tensor(t), 160)), line(data.type(t) || "type not known", false),
        line(`${from >= 0 ? `from ${data.opName(from)}` : "graph input"} to ${users} node${users === 1 ? "" : "s"}`),
        item < 0 ? line("click: its producer · Alt+click: its consumers") : null);
    }
    card.replaceChildren(...rows.filter((row) => row !== null));
    const { width, height } = this.renderer;
    card.style.left = `${Math.max(4, Math.min(px + 16, width - card.offsetWidth - 6))}px`;
    card.style.top = `${Math.max(4, py + 18 + card.offsetHeight > height ? py - card.offsetHeight - 12 : py + 18)}px`;
  }

  help() {
    help(this.root, this.edits.able);
  }

  focusSearch() {
    this.search.focus();
    this.search.select();
  }

  get near(): boolean {
    return this.renderer.camera.k >= NEAR;
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
