// Keeps the picture in step with the model: patches from the kernel, and what stays where it was.
import { Data, type Unpacked, unpack } from "./data";
import { type Move, patched } from "./patch";
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
    host.call!("shapes", {}).then(() => void (this.stamp && settle()), (error: Error) => this.view.words.say(`Shapes cannot be inferred: ${error.message}`));
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
    const names = moved ? undefined : new Map(data.head.nodes.map((name, n) => [name, n]));
    const now = moved ?? ((n: number) => names!.get(old.name(n)) ?? -1);
    const keep = (list: Iterable<number>) => [...list].map(now).filter((n) => n >= 0);
    if (!moved) {
      const folded = new Set([...view.folds.collapsed].map((key) => old.path(Number(key.split(":")[1])).join("\0")));
      view.folds.collapsed = new Set(data.head.scopes.flatMap((_, s) => (folded.has(data.path(s).join("\0")) ? [`0:${s}`] : [])));
    }
    view.folds.opened = new Set(keep(view.folds.opened));
    const nodes = new Int32Array(data.nodes).fill(-1);
    for (let n = 0; n < old.nodes; n++) if (now(n) >= 0) nodes[now(n)] = n;
    const scene = await view.arrange(data, nodes);
    const chosen = view.selection;
    view.data = data;
    view.follow(before, scene, chosen[0] ?? -1);
    view.selection = keep(chosen);
    view.dressed();
    view.select(view.selection, { quiet: true });
    view.search.find(false);
    performance.mark("workbench-redrawn");
    void view.edits.showHistory();
  }

  dispose() {
    clearTimeout(this.timer);
  }
}
