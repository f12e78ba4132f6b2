// The whole graph in a corner. A long graph is stretched sideways to a strip, as an editor's map of a long file is.
import type { Theme } from "./colors";
import type { Renderer } from "./render";

export class Minimap {
  stale = true; // after a change of layout, colours or size
  private picture = document.createElement("canvas");
  private later = 0;
  private theme!: Theme;
  private sx = 1;
  private sy = 1;
  private w = 0;
  private h = 0;

  constructor(readonly canvas: HTMLCanvasElement, readonly renderer: Renderer, readonly move: (x: number, y: number) => void) {
    const go = (event: PointerEvent) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = canvas.getBoundingClientRect();
      move((event.clientX - box.left - 4) / this.sx, (event.clientY - box.top - 4) / this.sy);
      event.preventDefault();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    canvas.addEventListener("pointermove", go);
  }

  /** Draws the picture of the whole. */
  private rebuild(theme: Theme) {
    this.stale = false;
    const { scene, width, height } = this.renderer;
    const tall = Math.min(height - 20, 440);
    const shape = scene.width / Math.max(1, scene.height);
    this.h = Math.max(40, Math.min(tall, (Math.min(170, width / 4) / Math.max(shape, 0.001)) | 0)) - 8;
    this.w = Math.max(34, Math.min(170, width / 4, (this.h + 8) * shape)) - 8;
    [this.sx, this.sy] = [this.w / Math.max(1, scene.width), this.h / Math.max(1, scene.height)];
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.picture, this.canvas]) {
      canvas.width = (this.w + 8) * ratio;
      canvas.height = (this.h + 8) * ratio;
    }
    this.canvas.style.width = `${this.w + 8}px`;
    this.canvas.style.height = `${this.h + 8}px`;
    const c = this.picture.getContext("2d")!;
    c.setTransform(ratio, 0, 0, ratio, 4 * ratio, 4 * ratio);
    c.fillStyle = theme.surface;
    c.fillRect(-4, -4, this.w + 8, this.h + 8);
    const n = scene.kind.length;
    const step = Math.max(1, Math.ceil(n / 12000));
    for (const [color, list] of this.renderer.byColor()) {
      c.fillStyle = color;
      for (let j = 0; j < list.length; j += step) {
        const i = list[j];
        c.fillRect((scene.x[i] - scene.w[i] / 2) * this.sx, scene.y[i] * this.sy, Math.max(1, scene.w[i] * this.sx), Math.max(0.8, scene.h[i] * this.sy));
      }
    }
    c.fillStyle = theme.accent;
    for (let i = 0; i < n; i++)
      if (this.renderer.marked[i] & 3) c.fillRect(scene.x[i] * this.sx - 1.5, scene.y[i] * this.sy - 0.5, 3, 2);
  }

  draw(theme: Theme) {
    this.theme = theme;
    const { camera, width, height, scene } = this.renderer;
    const inView = scene.width * camera.k <= width && scene.height * camera.k <= height;
    this.canvas.hidden = inView || width < 300 || height < 160;
    if (this.canvas.hidden || this.later) return;
    if (this.stale) {
      this.later = window.setTimeout(() => { // after the picture itself
        this.later = 0;
        this.rebuild(this.theme);
        this.draw(this.theme);
      });
      return;
    }
    const c = this.canvas.getContext("2d")!;
    const ratio = window.devicePixelRatio || 1;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(this.picture, 0, 0);
    c.setTransform(ratio, 0, 0, ratio, 4 * ratio, 4 * ratio);
    const clip = (value: number, most: number) => Math.max(-2, Math.min(most + 2, value));
    const x0 = clip((camera.x - width / 2 / camera.k) * this.sx, this.w);
    const x1 = clip((camera.x + width / 2 / camera.k) * this.sx, this.w);
    const y0 = clip((camera.y - height / 2 / camera.k) * this.sy, this.h);
    const y1 = Math.max(y0 + 4, clip((camera.y + height / 2 / camera.k) * this.sy, this.h));
    c.globalAlpha = 0.16;
    c.fillStyle = theme.accent;
    c.fillRect(x0, y0, x1 - x0, y1 - y0);
    c.globalAlpha = 1;
    c.lineWidth = 1.5;
    c.strokeStyle = theme.accent;
    c.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}
