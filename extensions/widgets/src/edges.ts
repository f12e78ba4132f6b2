// Edges: each tensor in pieces, with arrows, colours and the shapes beside them.
import { Buckets } from "./buckets";
import type { Theme } from "./colors";
import type { Renderer } from "./render";
import type { Scene } from "./scene";

export class Edges {
  private pieces!: Buckets;

  constructor(private renderer: Renderer) {}

  private get context(): CanvasRenderingContext2D {
    return this.renderer.pen.context;
  }

  private get scene(): Scene {
    return this.renderer.scene;
  }

  private get theme(): Theme {
    return this.renderer.theme;
  }

  private get k(): number {
    return this.renderer.camera.k;
  }

  take({ pieces: p, height }: Scene) {
    const low = new Float32Array(p.length / 4);
    const high = new Float32Array(p.length / 4);
    for (let i = 0; i < low.length; i++) {
      low[i] = Math.min(p[4 * i + 1], p[4 * i + 3]);
      high[i] = Math.max(p[4 * i + 1], p[4 * i + 3]);
    }
    this.pieces = new Buckets(height, low, high);
  }

  /** Tensor whose edge is within a few pixels; -1 none. */
  at(px: number, py: number): number {
    const [x, y] = this.renderer.toWorld(px, py);
    const p = this.scene.pieces;
    let best = 6 / this.k;
    let found = -1;
    if (this.k < 0.12) return -1;
    this.pieces.each(y - best, y + best, (i) => {
      const [x0, y0, x1, y1] = p.subarray(4 * i, 4 * i + 4);
      const t = y1 === y0 ? 0 : Math.max(0, Math.min(1, (y - y0) / (y1 - y0)));
      // close to the curve that is drawn; an edge to the side is met all along
      const at = y0 === y1 ? Math.max(Math.min(x0, x1), Math.min(Math.max(x0, x1), x)) : x0 + (x1 - x0) * (3 * t * t - 2 * t * t * t);
      if (Math.abs(at - x) < best) [best, found] = [Math.abs(at - x), this.scene.pieceTensor[i]];
    });
    return found;
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

  draw(x0: number, y0: number, x1: number, y1: number) {
    const c = this.context;
    const { pieces: p, pieceItem } = this.scene;
    const { k } = this;
    const least = 1.5 / k;
    const straight = k < 0.16;
    const arrows: number[] = [];
    const changed: number[][] = [[], [], []];
    const change = this.scene.pieceChange;
    c.strokeStyle = this.theme.edge;
    c.lineWidth = Math.max(1.15, 0.8 / k);
    c.beginPath();
    this.pieces.each(y0, y1, (i) => {
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
    c.lineWidth = Math.max(2.2, 1.6 / this.k);
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
  lanes(y0: number, y1: number) {
    const c = this.context;
    const p = this.scene.pieces;
    const { k } = this;
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
  hot(y0: number, y1: number) {
    if (!this.renderer.hotTensors.size) return;
    const { pieceTensor, pieceChange } = this.scene;
    const byColor = new Map<string, number[]>();
    this.pieces.each(y0, y1, (i) => {
      const color = pieceChange?.[i] ? undefined : this.renderer.hotTensors.get(pieceTensor[i]); // a diff keeps its own
      if (color) (byColor.get(color) ?? byColor.set(color, []).get(color)!).push(i);
    });
    for (const [color, list] of byColor) this.strong(list, color);
  }

  /** Shapes beside the edges, once per tensor, below its producer; of a node's tensors those that have room. */
  shapes(x0: number, y0: number, x1: number, y1: number) {
    const { scene, theme, pen } = this.renderer;
    const p = scene.pieces;
    pen.context.textAlign = "left";
    pen.context.textBaseline = "middle";
    let last = -1;
    const taken = new Map<number, [from: number, to: number][]>(); // of each row
    this.pieces.each(y0, y1, (i) => {
      const t = scene.pieceTensor[i];
      if (t === last || (i && scene.pieceTensor[i - 1] === t)) return;
      last = t;
      const [x, y] = [p[4 * i], p[4 * i + 1]];
      if (x < x0 - 100 || x > x1 || y > y1) return;
      const whole = scene.data.shapeOf(t);
      if (!whole || whole === "scalar") return;
      const text = whole.length > 28 ? `${whole.slice(0, 27)}…` : whole;
      const wide = pen.measure(text, 9.5, 500);
      const row = taken.get(y) ?? [];
      if (row.some(([from, to]) => x < to && x + wide > from)) return;
      taken.set(y, [...row, [x, x + wide]]);
      pen.face(500, 9.5);
      pen.seamed(text, x + 6, y + 11, theme.halo, 3, theme.muted);
    });
  }
}
