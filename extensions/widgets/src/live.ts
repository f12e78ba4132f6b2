// Keeps the picture in step with the model: patches from the kernel, and what stays where it was.
import { Data, type Unpacked, unpack } from "./data";
import { type Move, patched } from "./patch";
import type { Scene } from "./scene";
import type { View } from "./view";

const IDLE = 3000; // ms after the last edit until costs are counted again and the saved state follows

export class Live {
  private latest!: Unpacked; // the newest columns that are here
  private moved?: Move; // from what is shown to those; undefined: another model
  private pending = false;
  private showing = false;
  private timer = 0;

  constructor(private view: View) {}

  start() {
    const { view } = this;
    this.latest = view.data.source;
    if (!view.host.call) return;
    view.host.onPatch?.((from, to, buffer) => this.take(from, to, buffer));
    // the saved state may be older than the model is
    view.host.call<number>("hello", {}).then(({ result }) => (result === this.stamp ? this.improve() : this.fetch()), () => {});
  }

  /** A picture is being made; what is selected has its old names until then. */
  get busy() {
    return this.showing;
  }

  get stamp() {
    return (this.latest.header.stamp as number | undefined) ?? 0;
  }

  private take(from: number, to: number, buffer: ArrayBuffer) {
    if (to <= this.stamp) return;
    if (from !== this.stamp) return void this.fetch();
    const { now, moved } = patched(this.latest, unpack(buffer));
    const before = this.pending ? this.moved : (n: number) => n;
    this.moved = before && ((n) => (before(n) < 0 ? -1 : moved(before(n))));
    this.latest = now;
    void this.show();
    this.later();
  }

  /** Everything again: patches were missed, or it is another model. */
  private async fetch() {
    try {
      this.whole(await this.view.host.again!());
    } catch (error) {
      this.view.tell((error as Error).message);
    }
  }

  /** What the saved state of the widget has now. */
  reload() {
    this.view.host.load().then((buffer) => this.whole(buffer), (error: Error) => this.view.tell(error.message));
  }

  private whole(buffer: ArrayBuffer) {
    const next = unpack(buffer);
    if (next.header.stamp === this.stamp && this.stamp) return; // what is here already
    this.latest = next;
    this.moved = undefined;
    void this.show();
    this.later();
  }

  private later() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.improve(), IDLE);
  }

  /** Shapes and costs that are not known yet; then the saved state. */
  private improve() {
    const { host, data } = this.view;
    const settle = () => host.call!("settle", {}).catch(() => {});
    if (data.macs && !data.head.rough) return void (this.stamp && settle());
    host.call!("shapes", {}).then(() => void (this.stamp && settle()), (error: Error) => this.view.say(`Shapes cannot be inferred: ${error.message}`));
  }

  /** Shows the newest columns; those that come meanwhile follow. */
  private async show() {
    this.pending = true;
    if (this.showing) return;
    this.showing = true;
    try {
      while (this.pending) {
        this.pending = false;
        await this.draw(new Data(this.latest), this.moved);
      }
      this.showing = false;
      this.view.outside();
    } catch (error) {
      this.view.fail(error as Error);
    } finally {
      this.showing = false;
    }
  }

  private async draw(data: Data, moved?: Move) {
    const { view } = this;
    const [old, before] = [view.data, view.scene];
    const names = (list: Iterable<number>) => [...list].map((n) => old.name(n));
    const keep = (list: Iterable<number>): number[] =>
      moved ? [...list].map(moved).filter((n) => n >= 0) : named(data, names(list));
    if (!moved) {
      const folded = new Set([...view.collapsed].map((key) => old.path(Number(key.split(":")[1])).join("\0")));
      view.collapsed = new Set(data.head.scopes.flatMap((_, s) => (folded.has(data.path(s).join("\0")) ? [`0:${s}`] : [])));
    }
    view.opened = new Set(keep(view.opened));
    const earlier = before.where();
    if (moved)
      for (let n = 0; n < old.nodes; n++) { // a node with another name stays where it was
        const now = moved(n);
        if (now >= 0 && old.name(n) !== data.name(now) && earlier.has(`n${old.name(n)}`)) earlier.set(`n${data.name(now)}`, earlier.get(`n${old.name(n)}`)!);
      }
    const scene = await view.arrange(data, earlier);
    const anchor = this.anchor(before, scene, moved ?? ((n) => named(data, names([n]))[0] ?? -1));
    const selection = keep(view.selection);
    view.data = data;
    view.scene = scene;
    view.renderer.take(scene);
    if (anchor) view.shift(...anchor);
    view.selection = selection;
    view.dressed();
    view.select(selection, { quiet: true });
    view.find(false);
    void view.edits.showHistory();
    performance.mark("workbench-redrawn");
  }

  /** How far the place where one looks has moved: the node nearest to the selection, or to the middle, that is in both. */
  private anchor(before: Scene, after: Scene, moved: Move): [number, number] | undefined {
    const { camera } = this.view.renderer;
    const first = before.itemOf[this.view.selection[0] ?? -1] ?? -1;
    const [x, y] = first >= 0 ? [before.x[first], before.y[first]] : [camera.x, camera.y];
    let [best, from, to] = [Infinity, -1, -1];
    for (let n = 0; n < before.itemOf.length; n++) {
      const item = before.itemOf[n];
      if (item < 0) continue;
      const far = Math.abs(before.x[item] - x) + Math.abs(before.y[item] - y);
      if (far >= best) continue;
      const now = after.itemOf[moved(n)] ?? -1;
      if (now >= 0) [best, from, to] = [far, item, now];
    }
    return from < 0 ? undefined : [after.x[to] - before.x[from], after.y[to] - before.y[from]];
  }

  dispose() {
    clearTimeout(this.timer);
  }
}

function named(data: Data, names: readonly string[]): number[] {
  if (!names.length) return [];
  const wanted = new Set(names);
  return data.head.nodes.flatMap((name, n) => (wanted.has(name) ? [n] : []));
}
