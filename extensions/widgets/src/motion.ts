// What part of the picture is seen: the camera, where it goes, and when the canvas is drawn again.
import { short } from "./dom";
import { type Camera, NEAR } from "./camera";
import type { View } from "./view";

const REST = 700; // ms without a change after which the picture is at rest
const EASE = 0.28; // of the way in a frame

export class Motion {
  target?: Camera; // where the camera goes
  private frame = 0;
  private stale = false;
  private seen = 0; // when it was drawn last
  private telling = 0;
  private settled = 0;

  constructor(private view: View) {}

  /** Where the camera is, or will be. */
  get goal(): Camera {
    return this.target ?? this.view.renderer.camera;
  }

  /** The cameras that there are: what is seen, and where it goes. */
  get cameras(): Camera[] {
    return this.target ? [this.view.renderer.camera, this.target] : [this.view.renderer.camera];
  }

  get near(): boolean {
    return this.view.renderer.camera.k >= NEAR;
  }

  /** Takes the size of the stage; what is on the screen stays where it is when the panel comes or goes. */
  measure() {
    const { stage, renderer } = this.view;
    const { clientWidth, clientHeight } = stage;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = renderer;
    if (!clientWidth || !clientHeight || (clientWidth === width && clientHeight === height && ratio === renderer.ratio)) return;
    const first = !width;
    for (const camera of first ? [] : this.cameras) {
      camera.x += (clientWidth - width) / 2 / camera.k;
      camera.y += (clientHeight - height) / 2 / camera.k;
    }
    renderer.resize(clientWidth, clientHeight, ratio);
    this.view.map.stale = true;
    if (first) this.look();
    this.draw();
  }

  /** First sight: all of it when that can be read, else the beginning. */
  look() {
    const { renderer, scene } = this.view;
    if (!renderer.width) return;
    const whole = this.whole();
    if (whole.k >= 0.3) Object.assign(renderer.camera, whole);
    else {
      const k = Math.max(0.3, Math.min(0.8, (renderer.width * 0.8) / Math.max(1, scene.width)));
      const [wide, high] = [renderer.width / 2 / k, renderer.height / 2 / k];
      const [x, y] = scene.beginning();
      // from the corner, if it is seen then
      const [left, top] = [scene.wrapped && x < 1.6 * wide, y * k < 120];
      Object.assign(renderer.camera, { k, x: left ? wide - 26 / k : x, y: (top ? 0 : y) + high - (top ? 26 : 60) / k });
    }
  }

  whole(): Camera {
    const { scene, renderer, legend } = this.view;
    const foot = scene.wrapped ? legend.offsetHeight : 0; // columns fill the view: the legend must not hide their ends
    const k = Math.min(1.15, (renderer.width - 48) / Math.max(1, scene.width), (renderer.height - 48 - foot) / Math.max(1, scene.height));
    return { x: scene.width / 2, y: scene.height / 2 + foot / 2 / k, k };
  }

  private limit(k: number): number {
    return Math.max(Math.min(0.02, this.whole().k * 0.6), Math.min(4, k));
  }

  fit() {
    this.aim(this.whole());
  }

  aim(camera: Camera, now = false) {
    this.view.words.card.hidden = true; // what it tells of moves away
    const next = { ...camera, k: this.limit(camera.k) };
    if (now || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      Object.assign(this.view.renderer.camera, next);
      this.target = undefined;
    } else this.target = next;
    this.redraw();
  }

  zoom(factor: number, px = this.view.renderer.width / 2, py = this.view.renderer.height / 2) {
    const { width, height } = this.view.renderer;
    const { x, y, k } = this.goal;
    const next = this.limit(k * factor);
    const [dx, dy] = [px - width / 2, py - height / 2];
    this.aim({ x: x + dx / k - dx / next, y: y + dy / k - dy / next, k: next });
  }

  /** Brings nodes into view. */
  show(nodes: number[]) {
    const items = nodes.map((n) => this.view.scene.itemOf[n]).filter((i) => i >= 0);
    if (items.length) this.showItems(items);
  }

  showItems(items: number[]) {
    const { scene, renderer } = this.view;
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
    if (this.target) this.approach(this.target);
    if (this.stale) this.draw();
    if (this.target) this.redraw();
  }

  private approach(t: Camera) {
    const { camera } = this.view.renderer;
    // zooming keeps the place under the pointer: what is interpolated is the screen, so k by its logarithm
    const k = camera.k * (t.k / camera.k) ** EASE;
    const part = Math.abs(t.k - camera.k) < 1e-6 * t.k ? EASE : (1 / camera.k - 1 / k) / (1 / camera.k - 1 / t.k);
    camera.x += (t.x - camera.x) * part;
    camera.y += (t.y - camera.y) * part;
    camera.k = k;
    if (Math.abs(Math.log(t.k / k)) < 0.002 && Math.hypot(t.x - camera.x, t.y - camera.y) * k < 0.4) {
      Object.assign(camera, t);
      this.target = undefined;
    }
    this.stale = true;
  }

  draw() {
    this.stale = false;
    const { renderer, map, theme, host, words } = this.view;
    if (!renderer?.width) return;
    renderer.draw();
    map.draw(theme);
    this.seen = performance.now();
    this.telling ||= window.setTimeout(() => { // not in every frame
      this.telling = 0;
      words.status();
    }, 60);
    if (host.see) this.settled ||= window.setTimeout(() => this.rest(), REST);
  }

  /** Gives the kernel the picture when it rests, for to_svg. */
  private rest() {
    const { renderer, root, host, data } = this.view;
    const left = this.seen + REST - performance.now();
    this.settled = left > 0 ? window.setTimeout(() => this.rest(), left) : 0;
    if (left <= 0 && renderer.drawn <= 4000 && root.isConnected) host.see!(renderer.svg(`Graph of ${short(data.head.name, 80)}`));
  }

  dispose() {
    clearTimeout(this.settled);
    clearTimeout(this.telling);
    cancelAnimationFrame(this.frame);
  }
}
