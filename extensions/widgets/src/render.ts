// Draws a scene on a canvas. Only what is in view is touched; what is drawn of it depends on the zoom:
// far: coloured blocks with the names of modules; middle: operators; near: names, details, shapes on edges.
import { Afar } from "./afar";
import { Modules } from "./boxes";
import { Buckets } from "./buckets";
import { type Camera, MIDDLE, NEAR, TINY } from "./camera";
import { inkOn, type Theme } from "./colors";
import { Edges } from "./edges";
import { Pen } from "./pen";
import { GROUP, NODE, type Scene } from "./scene";
import { SvgContext } from "./svg";

export class Renderer {
  readonly camera: Camera = { x: 0, y: 0, k: 1 };
  color: (item: number) => string = () => "#888888";
  marked: Uint8Array = new Uint8Array(0); // 1 selected, 2 found, 4 hovered
  faded = false;
  hotTensors = new Map<number, string>(); // tensor -> colour
  width = 0;
  height = 0;
  drawn = 0;
  far = false; // so much is in view that a sample is drawn
  mark?: (item: number) => string;
  private items?: Buckets;
  readonly edges = new Edges(this);
  readonly pen: Pen;
  private modules = new Modules(this);
  private afar = new Afar(this);
  ratio = 1;
  private hues?: Map<string, number[]>;
  private open: number[] = [];
  private opened = new Set<number>();

  constructor(readonly canvas: HTMLCanvasElement, public scene: Scene, public theme: Theme) {
    this.pen = new Pen(canvas.getContext("2d", { alpha: false })!);
    this.take(scene);
  }

  take(scene: Scene) {
    const { y, h, kind, placed } = scene;
    const alike = this.items && placed === this.scene.placed; // all is where it was
    this.scene = scene;
    this.marked = new Uint8Array(kind.length);
    this.repaint();
    if (alike) return;
    this.items = new Buckets(scene.height, y, y.map((top, i) => top + h[i]));
    this.edges.take(scene);
    this.open = [...scene.levels.entries()]
      .flatMap(([l, level]) => level.inside.map(([item]) => scene.parts[l].first + item))
      .sort((a, b) => scene.level[b] - scene.level[a]);
    this.opened = new Set(this.open);
    this.modules.take(scene);
  }

  paint(color: (item: number) => string) {
    this.color = color;
    this.repaint();
  }

  private repaint() {
    this.hues = undefined;
    this.afar.forget();
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
    this.items!.each(y - slack, y + slack, (i) => {
      if (Math.abs(scene.x[i] - x) > scene.w[i] / 2 + slack) return;
      if (found < 0 || scene.level[i] < scene.level[found] || this.opened.has(found)) found = i;
    });
    return found;
  }

  itemsIn(x0: number, y0: number, x1: number, y1: number): number[] {
    const found: number[] = [];
    const { x, w } = this.scene;
    this.items!.each(y0, y1, (i) => {
      if (x[i] + w[i] / 2 >= x0 && x[i] - w[i] / 2 <= x1 && !this.opened.has(i)) found.push(i);
    });
    return found;
  }

  draw() {
    const c = this.context;
    const { x, y, k } = this.camera;
    const { theme, ratio, scene } = this;
    this.pen.forget();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = theme.back;
    c.fillRect(0, 0, this.width, this.height);
    const [x0, y0] = this.toWorld(0, 0);
    const [x1, y1] = this.toWorld(this.width, this.height);
    this.far = k < TINY || (k < 0.13 && this.share(x0, y0, x1, y1) * scene.kind.length > 4500);
    this.modules.draw(x0, y0, x1, y1);
    const s = k * ratio;
    c.setTransform(s, 0, 0, s, (this.width / 2 - x * k) * ratio, (this.height / 2 - y * k) * ratio);
    for (const i of this.open) if (this.visible(i, x0, y0, x1, y1)) this.drawOpen(i);
    const pictured = this.far && this.afar.draw();
    if (!this.far) this.edges.draw(x0, y0, x1, y1);
    else if (!pictured) this.edges.lanes(y0, y1);
    this.edges.hot(y0, y1);
    if (!this.far) this.drawItems(x0, y0, x1, y1);
    else if (!pictured) this.sample(x0, y0, x1, y1);
    for (let i = 0; i < this.marked.length; i++) if (this.marked[i] && this.visible(i, x0, y0, x1, y1)) this.drawMark(i);
    if (k >= 0.62) this.edges.shapes(x0, y0, x1, y1);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.modules.labels(x0, y0, x1, y1);
  }

  /** What is in view, as SVG. */
  svg(title: string): string {
    const [canvas, ratio] = [this.context, this.ratio];
    const made = new SvgContext(canvas);
    this.pen.context = made as unknown as CanvasRenderingContext2D;
    this.ratio = 1;
    try {
      this.draw();
    } finally {
      [this.pen.context, this.ratio] = [canvas, ratio];
    }
    return made.document(this.width, this.height, title);
  }

  private get context(): CanvasRenderingContext2D {
    return this.pen.context;
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

  private drawItems(x0: number, y0: number, x1: number, y1: number) {
    const { scene, context, camera: { k } } = this;
    this.drawn = 0;
    this.items!.each(y0, y1, (i) => {
      if (scene.x[i] + scene.w[i] / 2 < x0 || scene.x[i] - scene.w[i] / 2 > x1 || this.opened.has(i)) return;
      this.drawn++;
      if (this.faded) context.globalAlpha = this.marked[i] ? 1 : 0.28;
      if (k < MIDDLE) this.drawBlock(i);
      else this.drawItem(i);
    });
    context.globalAlpha = 1;
  }

  /** So far away that an item is less than a pixel: as many of them as can be told apart. */
  sample(x0: number, y0: number, x1: number, y1: number, most = 12000) {
    const { x, y, w, h, kind } = this.scene;
    const c = this.context;
    const { k } = this.camera;
    const step = Math.max(1, Math.ceil((kind.length * this.share(x0, y0, x1, y1)) / most));
    const [wide, high] = [2 / k, 1.2 / k]; // what can be seen
    this.drawn = 0;
    for (const [color, list] of this.byColor()) {
      c.fillStyle = color;
      for (let j = 0; j < list.length; j += step) {
        const i = list[j];
        const [width, height] = [w[i] > wide ? w[i] : wide, h[i] > high ? h[i] : high];
        const left = x[i] - width / 2;
        if (y[i] > y1 || y[i] + height < y0 || left > x1 || left + width < x0) continue;
        c.fillRect(left, y[i], width, height);
        this.drawn++;
      }
    }
  }

  /** Closed items by their colour: to change it for each is slow. */
  byColor(): Map<string, number[]> {
    if (this.hues) return this.hues;
    this.hues = new Map();
    for (let i = 0; i < this.scene.kind.length; i++) {
      if (this.opened.has(i)) continue;
      const color = this.color(i);
      (this.hues.get(color) ?? this.hues.set(color, []).get(color)!).push(i);
    }
    return this.hues;
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
      this.pen.text(scene.data.tensor(scene.ref[i]), x + w / 2, y + h / 2 + 0.5, w - 20, k < NEAR ? 14 : 11.5, 600, theme.ink);
      return;
    }
    const sign = this.mark?.(i);
    const label = (sign ? `${sign} ` : "") + (kind === NODE ? scene.data.opName(scene.ref[i]) : scene.data.head.scopes[scene.ref[i]][1]);
    if (k < NEAR) {
      this.round(x, y, w, h, 7);
      c.fillStyle = color;
      c.fill();
      this.pen.text(label, x + w / 2, y + h / 2, w - 8, this.pen.largest(label, w - 8, 20, 14), 600, inkOn(color));
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
    this.pen.text(holds ? `${label} ▸` : kind === GROUP ? `▸ ${label}` : label, x + w / 2, y + 11.5, w - 12, 12, 650, inkOn(color));
    const name = kind === NODE ? scene.data.tail(scene.ref[i]) : `${scene.members.get(i)!.length} nodes`;
    this.pen.text(name, x + w / 2, y + 32, w - 12, 10, 400, theme.muted);
    const detail = scene.detail(i);
    if (detail) this.pen.text(detail, x + w / 2, y + 46, w - 12, 10, 500, theme.ink);
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
    this.pen.text(`▾ ${scene.data.opName(n)} · ${scene.data.tail(n)}`, scene.x[i], y + 12.5, scene.w[i] - 16, 12, 650, inkOn(this.color(i)));
    const level = scene.levels[scene.level[i]];
    const own = level.inside.find(([item]) => scene.parts[scene.level[i]].first + item === i);
    if (!own) return;
    for (const place of own[1]) {
      const part = scene.parts[place];
      const inner = scene.levels[place].input.n;
      let left = Infinity;
      for (let j = part.first; j < part.first + inner; j++) left = Math.min(left, scene.x[j] - scene.w[j] / 2);
      c.textAlign = "left";
      if (inner) this.pen.text(scene.data.head.graphs[part.graph].label, left, y + 37, 200, 11, 600, theme.muted);
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


}
