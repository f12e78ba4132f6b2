// Draws a scene on a canvas. Only what is in view is touched; what is drawn of it depends on the zoom:
// far: coloured blocks with the names of modules; middle: operators; near: names, details, shapes on edges.
import { type Box, scopeBoxes } from "./boxes";
import { inkOn, type Theme } from "./colors";
import { GROUP, NODE, type Scene } from "./scene";
import { SvgContext } from "./svg";

const BUCKET = 512;
const FONT = '"Inter","Segoe UI",system-ui,-apple-system,"Helvetica Neue",Arial,sans-serif';
export const TINY = 0.045;
export const NEAR = 0.52;
export const MIDDLE = 0.3;

export interface Camera {
  x: number; // world coordinates of the middle of the canvas
  y: number;
  k: number; // pixels per unit
}

/** Which entries lie in which stretch of y; `low` and `high` are their ends. */
class Buckets {
  private start: Int32Array;
  private list: Int32Array;
  private stamp: Int32Array;
  private turn = 0;

  constructor(height: number, private low: Float32Array, private high: Float32Array) {
    const count = low.length;
    const rows = Math.max(1, Math.ceil((height + 1) / BUCKET));
    const row = (y: number) => Math.max(0, Math.min(rows - 1, Math.floor(y / BUCKET)));
    this.start = new Int32Array(rows + 1);
    this.stamp = new Int32Array(count);
    for (let i = 0; i < count; i++) for (let r = row(low[i]), last = row(high[i]); r <= last; r++) this.start[r + 1]++;
    for (let r = 0; r < rows; r++) this.start[r + 1] += this.start[r];
    const at = this.start.slice();
    this.list = new Int32Array(this.start[rows]);
    for (let i = 0; i < count; i++) for (let r = row(low[i]), last = row(high[i]); r <= last; r++) this.list[at[r]++] = i;
  }

  each(y0: number, y1: number, act: (i: number) => void) {
    this.turn++;
    const rows = this.start.length - 1;
    const first = Math.max(0, Math.min(rows - 1, Math.floor(y0 / BUCKET)));
    const last = Math.min(rows - 1, Math.floor(y1 / BUCKET));
    for (let k = this.start[first]; k < this.start[Math.max(first, last + 1)]; k++) {
      const i = this.list[k];
      if (this.stamp[i] === this.turn) continue;
      this.stamp[i] = this.turn;
      if (this.low[i] <= y1 && this.high[i] >= y0) act(i);
    }
  }
}

export class Renderer {
  readonly camera: Camera = { x: 0, y: 0, k: 1 };
  color: (item: number) => string = () => "#888888";
  marked: Uint8Array = new Uint8Array(0); // 1 selected, 2 found, 4 hovered
  faded = false;
  hotTensors = new Map<number, string>(); // tensor -> colour
  width = 0;
  height = 0;
  boxes: Box[] = [];
  drawn = 0;
  private far = false; // so much is in view that a sample is drawn
  mark?: (item: number) => string;
  private items!: Buckets;
  private edges!: Buckets;
  private context: CanvasRenderingContext2D;
  ratio = 1;
  private open: number[] = [];
  private opened = new Set<number>();
  private widths = new Map<string, number>();
  private font = ""; // of the context

  constructor(readonly canvas: HTMLCanvasElement, public scene: Scene, public theme: Theme) {
    this.context = canvas.getContext("2d", { alpha: false })!;
    this.take(scene);
  }

  take(scene: Scene) {
    this.scene = scene;
    const { y, h, pieces: p, kind } = scene;
    this.marked = new Uint8Array(kind.length);
    this.items = new Buckets(scene.height, y, y.map((top, i) => top + h[i]));
    const low = new Float32Array(p.length / 4);
    const high = new Float32Array(p.length / 4);
    for (let i = 0; i < low.length; i++) {
      low[i] = Math.min(p[4 * i + 1], p[4 * i + 3]);
      high[i] = Math.max(p[4 * i + 1], p[4 * i + 3]);
    }
    this.edges = new Buckets(scene.height, low, high);
    this.open = [...scene.levels.entries()]
      .flatMap(([l, level]) => level.inside.map(([item]) => scene.parts[l].first + item))
      .sort((a, b) => scene.level[b] - scene.level[a]);
    this.opened = new Set(this.open);
    this.boxes = scopeBoxes(scene);
  }

  resize(width: number, height: number, ratio: number) {
    [this.width, this.height, this.ratio] = [width, height, ratio];
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
  }

  toWorld(px: number, py: number): [number, number] {
    const { x, y, k } = this.camera;
    return [x + (px - this.width / 2) / k, y + (py - this.height / 2) / k];
  }

  toScreen(x: number, y: number): [number, number] {
    return [(x - this.camera.x) * this.camera.k + this.width / 2, (y - this.camera.y) * this.camera.k + this.height / 2];
  }

  /** Item at a place on the canvas, the innermost one; -1 none. */
  itemAt(px: number, py: number): number {
    const [x, y] = this.toWorld(px, py);
    const { scene } = this;
    const slack = Math.min(40, 3 / this.camera.k);
    let found = -1;
    this.items.each(y - slack, y + slack, (i) => {
      if (Math.abs(scene.x[i] - x) > scene.w[i] / 2 + slack) return;
      if (found < 0 || scene.level[i] < scene.level[found] || this.opened.has(found)) found = i;
    });
    return found;
  }

  itemsIn(x0: number, y0: number, x1: number, y1: number): number[] {
    const found: number[] = [];
    const { x, w } = this.scene;
    this.items.each(y0, y1, (i) => {
      if (x[i] + w[i] / 2 >= x0 && x[i] - w[i] / 2 <= x1 && !this.opened.has(i)) found.push(i);
    });
    return found;
  }

  /** Tensor whose edge is within a few pixels; -1 none. */
  tensorAt(px: number, py: number): number {
    const [x, y] = this.toWorld(px, py);
    const p = this.scene.pieces;
    let best = 6 / this.camera.k;
    let found = -1;
    if (this.camera.k < 0.12) return -1;
    this.edges.each(y - best, y + best, (i) => {
      const [x0, y0, x1, y1] = p.subarray(4 * i, 4 * i + 4);
      const t = y1 === y0 ? 0 : Math.max(0, Math.min(1, (y - y0) / (y1 - y0)));
      // close to the curve that is drawn; an edge to the side is met all along
      const at = y0 === y1 ? Math.max(Math.min(x0, x1), Math.min(Math.max(x0, x1), x)) : x0 + (x1 - x0) * (3 * t * t - 2 * t * t * t);
      if (Math.abs(at - x) < best) [best, found] = [Math.abs(at - x), this.scene.pieceTensor[i]];
    });
    return found;
  }

  draw() {
    const c = this.context;
    const { x, y, k } = this.camera;
    const { theme, ratio, scene } = this;
    this.font = "";
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = theme.back;
    c.fillRect(0, 0, this.width, this.height);
    const [x0, y0] = this.toWorld(0, 0);
    const [x1, y1] = this.toWorld(this.width, this.height);
    this.far = k < TINY || (k < 0.13 && this.share(x0, y0, x1, y1) * scene.kind.length > 4500);
    this.drawBoxes(x0, y0, x1, y1);
    const s = k * ratio;
    c.setTransform(s, 0, 0, s, (this.width / 2 - x * k) * ratio, (this.height / 2 - y * k) * ratio);
    for (const i of this.open) if (this.visible(i, x0, y0, x1, y1)) this.drawOpen(i);
    if (!this.far) this.drawEdges(x0, y0, x1, y1);
    else this.drawLanes(y0, y1);
    this.drawHot(y0, y1);
    this.drawItems(x0, y0, x1, y1);
    if (k >= 0.62) this.drawShapes(x0, y0, x1, y1);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawLabels(x0, y0, x1, y1);
  }

  /** What is in view, as SVG. */
  svg(title: string): string {
    const [canvas, ratio] = [this.context, this.ratio];
    const made = new SvgContext(canvas);
    this.context = made as unknown as CanvasRenderingContext2D;
    this.ratio = 1;
    try {
      this.draw();
    } finally {
      [this.context, this.ratio] = [canvas, ratio];
    }
    return made.document(this.width, this.height, title);
  }

  /** How much of the picture lies in a rectangle. */
  private share(x0: number, y0: number, x1: number, y1: number): number {
    const part = (a: number, b: number, size: number) => Math.max(0, Math.min(b, size) - Math.max(a, 0)) / Math.max(1, size);
    return part(x0, x1, this.scene.width) * part(y0, y1, this.scene.height);
  }

  private visible(i: number, x0: number, y0: number, x1: number, y1: number) {
    const { x, y, w, h } = this.scene;
    return x[i] + w[i] / 2 >= x0 && x[i] - w[i] / 2 <= x1 && y[i] <= y1 && y[i] + h[i] >= y0;
  }

  private path(i: number) {
    const p = this.scene.pieces;
    const c = this.context;
    const [x0, y0, x1, y1] = [p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]];
    c.moveTo(x0, y0);
    if (Math.abs(x0 - x1) < 0.5) c.lineTo(x1, y1);
    else {
      const bend = (y1 - y0) * 0.5;
      c.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
    }
  }

  private drawEdges(x0: number, y0: number, x1: number, y1: number) {
    const c = this.context;
    const { pieces: p, pieceItem } = this.scene;
    const { k } = this.camera;
    const least = 1.5 / k;
    const straight = k < 0.16;
    const arrows: number[] = [];
    const changed: number[][] = [[], [], []];
    const change = this.scene.pieceChange;
    c.strokeStyle = this.theme.edge;
    c.lineWidth = Math.max(1.15, 0.8 / k);
    c.beginPath();
    this.edges.each(y0, y1, (i) => {
      const [a, b] = [p[4 * i], p[4 * i + 2]];
      if ((a < x0 && b < x0) || (a > x1 && b > x1)) return;
      if (change?.[i]) return void changed[change[i]].push(i);
      if (straight && p[4 * i + 3] - p[4 * i + 1] < least) return;
      if (straight) {
        c.moveTo(a, p[4 * i + 1]);
        c.lineTo(b, p[4 * i + 3]);
      } else this.path(i);
      if (pieceItem[i] >= 0 && k >= 0.4) arrows.push(i);
    });
    c.stroke();
    c.fillStyle = this.theme.edge;
    c.beginPath();
    for (const i of arrows) this.arrow(i);
    c.fill();
    this.strong(changed[1], this.theme.added);
    c.setLineDash([6, 4]);
    this.strong(changed[2], this.theme.out);
    c.setLineDash([]);
  }

  private strong(list: number[], color: string) {
    if (!list.length) return;
    const c = this.context;
    c.strokeStyle = c.fillStyle = color;
    c.lineWidth = Math.max(2.2, 1.6 / this.camera.k);
    c.beginPath();
    for (const i of list) this.path(i);
    c.stroke();
    c.beginPath();
    for (const i of list) if (this.scene.pieceItem[i] >= 0) this.arrow(i);
    c.fill();
  }

  private arrow(i: number) {
    const [x, y] = [this.scene.pieces[4 * i + 2], this.scene.pieces[4 * i + 3]];
    this.context.moveTo(x, y);
    this.context.lineTo(x - 3.6, y - 7);
    this.context.lineTo(x + 3.6, y - 7);
  }

  /** Far away only the lanes that can be seen. */
  private drawLanes(y0: number, y1: number) {
    const c = this.context;
    const p = this.scene.pieces;
    const { k } = this.camera;
    const least = 4 / k;
    c.strokeStyle = this.theme.edge;
    c.lineWidth = 0.7 / k;
    c.beginPath();
    for (let i = 0; i < p.length; i += 4)
      if (p[i + 3] - p[i + 1] > least && p[i + 3] >= y0 && p[i + 1] <= y1) {
        c.moveTo(p[i], p[i + 1]);
        c.lineTo(p[i + 2], p[i + 3]);
      }
    c.stroke();
  }

  /** Edges of the selection and under the pointer. */
  private drawHot(y0: number, y1: number) {
    if (!this.hotTensors.size) return;
    const { pieceTensor, pieceChange } = this.scene;
    const byColor = new Map<string, number[]>();
    this.edges.each(y0, y1, (i) => {
      const color = pieceChange?.[i] ? undefined : this.hotTensors.get(pieceTensor[i]); // a diff keeps its own
      if (color) (byColor.get(color) ?? byColor.set(color, []).get(color)!).push(i);
    });
    for (const [color, list] of byColor) this.strong(list, color);
  }

  private drawItems(x0: number, y0: number, x1: number, y1: number) {
    const { k } = this.camera;
    const { scene } = this;
    this.drawn = 0;
    if (this.far) return this.drawSample(x0, y0, x1, y1);
    const marked: number[] = [];
    this.items.each(y0, y1, (i) => {
      if (scene.x[i] + scene.w[i] / 2 < x0 || scene.x[i] - scene.w[i] / 2 > x1) return;
      if (this.marked[i]) marked.push(i);
      if (this.opened.has(i)) return;
      this.drawn++;
      if (this.faded) this.context.globalAlpha = this.marked[i] ? 1 : 0.28;
      if (k < MIDDLE) this.drawBlock(i);
      else this.drawItem(i);
    });
    this.context.globalAlpha = 1;
    for (const i of marked) this.drawMark(i);
  }

  /** So far away that an item is less than a pixel: as many of them as can be told apart. */
  private drawSample(x0: number, y0: number, x1: number, y1: number) {
    const { x, y, w, h, kind } = this.scene;
    const c = this.context;
    const { k } = this.camera;
    const step = Math.max(1, Math.ceil((kind.length * this.share(x0, y0, x1, y1)) / 12000));
    const byColor = new Map<string, number[]>(); // changing the colour for each is slow
    const marked: number[] = [];
    this.items.each(y0, y1, (i) => {
      if (x[i] + w[i] / 2 < x0 || x[i] - w[i] / 2 > x1) return;
      if (this.marked[i]) marked.push(i);
      if (i % step || this.opened.has(i)) return;
      const color = this.color(i);
      (byColor.get(color) ?? byColor.set(color, []).get(color)!).push(i);
    });
    for (const [color, list] of byColor) {
      c.fillStyle = color;
      this.drawn += list.length;
      for (const i of list) c.fillRect(x[i] - Math.max(w[i], 2 / k) / 2, y[i], Math.max(w[i], 2 / k), Math.max(h[i], 1.2 / k));
    }
    for (const i of marked) this.drawMark(i);
  }

  private drawBlock(i: number) {
    const { x, y, w, h } = this.scene;
    this.context.fillStyle = this.color(i);
    this.context.fillRect(x[i] - w[i] / 2, y[i], w[i], h[i]);
  }

  private round(x: number, y: number, w: number, h: number, r: number | number[]) {
    this.context.beginPath();
    this.context.roundRect(x, y, w, h, r);
  }

  private drawItem(i: number) {
    const { scene, theme, context: c } = this;
    const { k } = this.camera;
    const [w, h] = [scene.w[i], scene.h[i]];
    const [x, y] = [scene.x[i] - w / 2, scene.y[i]];
    const color = this.color(i);
    const kind = scene.kind[i];
    c.textBaseline = "middle";
    c.textAlign = "center";
    if (kind !== NODE && kind !== GROUP) {
      this.round(x, y, w, h, h / 2);
      c.fillStyle = theme.surface;
      c.fill();
      c.lineWidth = 1.4;
      c.strokeStyle = theme.muted;
      c.stroke();
      this.text(scene.data.tensor(scene.ref[i]), x + w / 2, y + h / 2 + 0.5, w - 20, k < NEAR ? 14 : 11.5, 600, theme.ink);
      return;
    }
    const sign = this.mark?.(i);
    const label = (sign ? `${sign} ` : "") + (kind === NODE ? scene.data.opName(scene.ref[i]) : scene.data.head.scopes[scene.ref[i]][1]);
    if (k < NEAR) {
      this.round(x, y, w, h, 7);
      c.fillStyle = color;
      c.fill();
      this.text(label, x + w / 2, y + h / 2, w - 8, this.largest(label, w - 8, 20, 14), 600, inkOn(color));
      return;
    }
    this.round(x, y, w, h, 6);
    c.fillStyle = theme.surface;
    c.fill();
    this.round(x, y, w, 22, [6, 6, 0, 0]);
    c.fillStyle = color;
    c.fill();
    this.round(x, y, w, h, 6);
    c.lineWidth = 1;
    c.strokeStyle = color;
    c.stroke();
    if (kind === GROUP) {
      this.round(x + 4, y + h + 1.5, w - 8, 3, [0, 0, 3, 3]);
      c.fill();
    }
    const holds = kind === NODE && scene.data.bodies.has(scene.ref[i]);
    this.text(holds ? `${label} ▸` : kind === GROUP ? `▸ ${label}` : label, x + w / 2, y + 11.5, w - 12, 12, 650, inkOn(color));
    const name = kind === NODE ? scene.data.tail(scene.ref[i]) : `${scene.members.get(i)!.length} nodes`;
    this.text(name, x + w / 2, y + 32, w - 12, 10, 400, theme.muted);
    const detail = scene.detail(i);
    if (detail) this.text(detail, x + w / 2, y + 46, w - 12, 10, 500, theme.ink);
  }

  private drawOpen(i: number) {
    const { scene, theme, context: c } = this;
    const { k } = this.camera;
    const [x, y] = [scene.x[i] - scene.w[i] / 2, scene.y[i]];
    this.round(x, y, scene.w[i], scene.h[i], 8);
    c.fillStyle = theme.back;
    c.fill();
    c.fillStyle = theme.box;
    c.fill();
    c.lineWidth = Math.max(1.5, 1 / k);
    c.strokeStyle = this.color(i);
    c.stroke();
    if (k < MIDDLE) return;
    this.round(x, y, scene.w[i], 24, [8, 8, 0, 0]);
    c.fillStyle = this.color(i);
    c.fill();
    c.textAlign = "center";
    c.textBaseline = "middle";
    const n = scene.ref[i];
    this.text(`▾ ${scene.data.opName(n)} · ${scene.data.tail(n)}`, scene.x[i], y + 12.5, scene.w[i] - 16, 12, 650, inkOn(this.color(i)));
    const level = scene.levels[scene.level[i]];
    const own = level.inside.find(([item]) => scene.parts[scene.level[i]].first + item === i);
    if (!own) return;
    for (const place of own[1]) {
      const part = scene.parts[place];
      const inner = scene.levels[place].input.n;
      let left = Infinity;
      for (let j = part.first; j < part.first + inner; j++) left = Math.min(left, scene.x[j] - scene.w[j] / 2);
      c.textAlign = "left";
      if (inner) this.text(scene.data.head.graphs[part.graph].label, left, y + 37, 200, 11, 600, theme.muted);
    }
  }

  private drawMark(i: number) {
    const { scene, theme, context: c } = this;
    const { k } = this.camera;
    const grow = 3 / k;
    const w = Math.max(scene.w[i], 4 / k) + 2 * grow;
    const h = Math.max(scene.h[i], 4 / k) + 2 * grow;
    this.round(scene.x[i] - w / 2, scene.y[i] - grow, w, h, Math.min(8, w / 2));
    c.lineWidth = (this.marked[i] & 1 ? 2.6 : 1.8) / k;
    c.strokeStyle = this.marked[i] & 1 ? theme.accent : this.marked[i] & 4 ? theme.muted : theme.out;
    if (this.marked[i] === 2) c.setLineDash([5 / k, 3 / k]);
    c.stroke();
    c.setLineDash([]);
  }

  /** Shapes beside the edges, once per tensor, below its producer. */
  private drawShapes(x0: number, y0: number, x1: number, y1: number) {
    const { scene, theme, context: c } = this;
    const p = scene.pieces;
    c.textAlign = "left";
    c.textBaseline = "middle";
    c.lineJoin = "round";
    let last = -1;
    this.edges.each(y0, y1, (i) => {
      const t = scene.pieceTensor[i];
      if (t === last || (i && scene.pieceTensor[i - 1] === t)) return;
      last = t;
      const [x, y] = [p[4 * i], p[4 * i + 1]];
      if (x < x0 - 100 || x > x1 || y > y1) return;
      const text = scene.data.shapeOf(t);
      if (!text || text === "scalar") return;
      c.strokeStyle = theme.halo;
      c.lineWidth = 3;
      const shown = text.length > 28 ? `${text.slice(0, 27)}…` : text;
      this.face(500, 9.5);
      c.strokeText(shown, x + 6, y + 11);
      c.fillStyle = theme.muted;
      c.fillText(shown, x + 6, y + 11);
    });
  }

  private text(text: string, x: number, y: number, room: number, size: number, weight: number, color: string) {
    const shown = this.fit(text, room, size, weight);
    this.face(weight, size);
    this.context.fillStyle = color;
    this.context.fillText(shown, x, y);
  }

  private face(weight: number, size: number) {
    const font = `${weight} ${size}px ${FONT}`;
    if (this.font !== font) this.context.font = this.font = font; // setting it is slow
  }

  /** Size in which a text fits into its room, not below `least`. */
  private largest(text: string, room: number, size: number, least: number): number {
    const fits = (size * room) / this.measure(text, size, 600);
    return fits >= size ? size : Math.max(least, Math.floor(fits));
  }

  /** Width of a text, in a weight and size. */
  private measure(text: string, size: number, weight: number): number {
    const key = `${size} ${weight} ${text}`;
    let width = this.widths.get(key);
    if (width === undefined) {
      if (this.widths.size > 20000) this.widths.clear();
      this.face(weight, size);
      this.widths.set(key, (width = this.context.measureText(text).width));
    }
    return width;
  }

  /** The text, shortened in the middle to the room there is. */
  fit(text: string, room: number, size: number, weight: number): string {
    if (text.length > 200) text = `${text.slice(0, 100)}…${text.slice(-60)}`;
    const width = this.measure(text, size, weight);
    if (width <= room) return text;
    const letters = [...text];
    let keep = Math.max(1, Math.floor((letters.length * room) / width) - 1);
    const cut = () => {
      const tail = Math.floor(keep / 3);
      return `${letters.slice(0, keep - tail).join("")}…${tail ? letters.slice(-tail).join("") : ""}`;
    };
    while (keep > 1 && this.measure(cut(), size, weight) > room) keep--;
    return cut();
  }

  private drawBoxes(x0: number, y0: number, x1: number, y1: number) {
    const c = this.context;
    const { k } = this.camera;
    for (const box of this.boxes) {
      if (box.y1 < y0 || box.y0 > y1 || box.x1 < x0 || box.x0 > x1 || (box.y1 - box.y0) * k < 10) continue;
      if (this.far && box.depth > 1) continue; // hundreds of boxes within boxes of a few pixels
      const [left, top] = this.toScreen(box.x0, box.y0);
      const [right, bottom] = this.toScreen(box.x1, box.y1);
      // far outside the canvas the corners cannot be seen, and huge rounded rectangles are slow
      const [a, b] = [Math.max(top, -20), Math.min(bottom, this.height + 20)];
      const [l, r] = [Math.max(left, -20), Math.min(right, this.width + 20)];
      this.round(l, a, r - l, b - a, Math.min(8, (b - a) / 3, (r - l) / 3));
      c.fillStyle = this.theme.box;
      c.fill();
      c.lineWidth = 1;
      c.strokeStyle = this.theme.boxLine;
      c.stroke();
    }
  }

  /** Names of modules: in the corner of their box, or beside it when it is too narrow. */
  private drawLabels(x0: number, y0: number, x1: number, y1: number) {
    const c = this.context;
    const { k } = this.camera;
    c.textBaseline = "middle";
    c.textAlign = "left";
    c.lineJoin = "round";
    const free: [number, number][] = [];
    const near = k >= MIDDLE;
    // the innermost box has the say where several begin at one place
    for (let j = this.boxes.length - 1; j >= 0; j--) {
      const box = this.boxes[near ? j : this.boxes.length - 1 - j];
      const tall = (box.y1 - box.y0) * k;
      if (box.y1 < y0 || box.y0 > y1 || box.x1 < x0 || box.x0 > x1 || tall < 13) continue;
      const wide = (box.x1 - box.x0) * k;
      if (near && wide < 60) continue;
      const [left, top] = this.toScreen(box.x0, box.y0);
      const inside = near || (wide > 30 && tall > 44);
      if (!inside && box.depth > 1) continue;
      const y = near ? top - 8 : inside ? top + 7 : Math.max(8, Math.min(this.height - 8, top + tall / 2));
      const x = near ? Math.max(left, 4) : inside ? left + 3 : left + wide + 8;
      if (y < 0 || y > this.height || free.some(([a, b]) => Math.abs(a - y) < (near ? 26 : 15) && Math.abs(b - x) < (inside && !near ? wide : 170))) continue;
      free.push([y, x]);
      const size = !inside ? 12 : near || wide > 110 ? 11 : 10;
      const room = wide + 40 * k;
      const tail = box.label.slice(box.label.search(/[^._]*$/));
      const far = inside && this.measure(box.label, size, 600) > room ? tail || box.label : box.label;
      const label = this.fit(near ? box.path : far, near ? Math.max(wide, 190) : inside ? room : 260, size, 600);
      this.face(600, size);
      c.strokeStyle = this.theme.halo;
      c.lineWidth = 3.5;
      c.strokeText(label, x, y);
      c.fillStyle = this.theme.muted;
      c.fillText(label, x, y);
    }
  }
}
