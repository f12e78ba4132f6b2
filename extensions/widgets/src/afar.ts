// All of a large scene, seen from so far that an item is less than a few pixels: painted once, and then moved.
import type { Renderer } from "./render";

const FINER = 1.25; // than what is seen at first, so that a little zoom needs no other picture
const MOST = 8e6; // pixels

export class Afar {
  private picture?: HTMLCanvasElement;
  private scale = 0; // pixels of the picture per unit

  constructor(private renderer: Renderer) {}

  /** After a change of places or colours. */
  forget() {
    this.picture = undefined;
  }

  /** Draws it, where that is quicker; whether it did. */
  draw(): boolean {
    const { scene, camera, ratio, pen: { context } } = this.renderer;
    const k = camera.k * ratio;
    if (!(context instanceof CanvasRenderingContext2D)) return false;
    if (!this.picture || k > this.scale * 1.05 || k < this.scale / 2.2) this.paint(context, k * FINER);
    if (!this.picture) return false;
    context.drawImage(this.picture, 0, 0, this.picture.width / this.scale, this.picture.height / this.scale);
    this.renderer.drawn = scene.kind.length;
    return true;
  }

  private paint(context: CanvasRenderingContext2D, scale: number) {
    const { scene: { width, height }, pen, edges } = this.renderer;
    this.forget();
    if (width * height * scale * scale > MOST) return;
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [width, height].map((size) => Math.max(1, Math.ceil(size * scale)));
    pen.context = picture.getContext("2d")!;
    pen.context.scale(scale, scale);
    edges.lanes(0, height);
    this.renderer.sample(0, 0, width, height, 60000);
    pen.context = context;
    [this.picture, this.scale] = [picture, scale];
  }
}
