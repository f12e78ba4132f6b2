// Mouse, touch and keys on the canvas.
import { GROUP, NODE } from "./scene";
import type { View } from "./view";

export class Pointer {
  private down?: { x: number; y: number; cx: number; cy: number; moved: boolean; rectangle: boolean };
  private fingers = new Map<number, [number, number]>();
  private band = document.createElement("div");

  constructor(private view: View) {
    const { canvas } = view;
    this.band.style.cssText = "position:absolute;pointer-events:none;border:1.5px solid var(--accent);background:color-mix(in srgb,var(--accent) 12%,transparent);border-radius:3px";
    this.band.hidden = true;
    view.stage.append(this.band);
    canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.release(e));
    canvas.addEventListener("pointercancel", (e) => this.cancel(e));
    canvas.addEventListener("pointerleave", () => view.words.hover(-1, -1));
    canvas.addEventListener("dblclick", (e) => this.double(e));
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  private at(event: MouseEvent): [number, number] {
    const box = this.view.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private wheel(event: WheelEvent) {
    event.preventDefault();
    const { view } = this;
    const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 300 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const { x, y, k } = view.motion.goal;
      view.motion.aim({ x: x + ((event.deltaX || event.deltaY) * unit) / k, y, k }, true);
      return;
    }
    const step = Math.max(-120, Math.min(120, event.deltaY * unit));
    view.motion.zoom(Math.exp(-step * (event.ctrlKey ? 0.01 : 0.0028)), ...this.at(event));
  }

  private press(event: PointerEvent) {
    if (event.button) return;
    const { view } = this;
    const [x, y] = this.at(event);
    view.canvas.focus({ preventScroll: true });
    view.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [x, y]);
    const { camera } = view.renderer;
    this.down = { x, y, cx: camera.x, cy: camera.y, moved: false, rectangle: event.shiftKey };
  }

  private move(event: PointerEvent) {
    const { view, down } = this;
    const [x, y] = this.at(event);
    if (this.fingers.size === 2) return this.pinch(event.pointerId, x, y);
    if (!down) return this.look(x, y);
    if (!down.moved && Math.hypot(x - down.x, y - down.y) < 4) return;
    down.moved = true;
    view.words.hover(-1, -1);
    if (down.rectangle) {
      this.band.hidden = false;
      const [l, t] = [Math.min(x, down.x), Math.min(y, down.y)];
      this.band.style.cssText += `;left:${l}px;top:${t}px;width:${Math.abs(x - down.x)}px;height:${Math.abs(y - down.y)}px`;
      return;
    }
    view.canvas.classList.add("drag");
    const { k } = view.renderer.camera;
    view.motion.aim({ x: down.cx - (x - down.x) / k, y: down.cy - (y - down.y) / k, k }, true);
  }

  private pinch(id: number, x: number, y: number) {
    const distance = () => {
      const [a, b] = [...this.fingers.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    const before = distance();
    this.fingers.set(id, [x, y]);
    const [a, b] = [...this.fingers.values()];
    if (this.down) this.down.moved = true;
    this.view.motion.zoom(distance() / Math.max(1, before), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
  }

  private look(x: number, y: number) {
    const { view } = this;
    const item = view.renderer.itemAt(x, y);
    const tensor = item < 0 ? view.renderer.edges.at(x, y) : -1;
    view.canvas.classList.toggle("hit", item >= 0 || tensor >= 0);
    view.mark(item, tensor);
    view.words.hover(item, tensor, x, y);
    view.motion.redraw();
  }

  private release(event: PointerEvent) {
    const { view, down } = this;
    this.fingers.delete(event.pointerId);
    this.down = undefined;
    this.band.hidden = true;
    view.canvas.classList.remove("drag");
    if (!down) return;
    const [x, y] = this.at(event);
    const more = event.ctrlKey || event.metaKey;
    if (down.moved) {
      if (!down.rectangle) return;
      const [x0, y0] = view.renderer.toWorld(Math.min(x, down.x), Math.min(y, down.y));
      const [x1, y1] = view.renderer.toWorld(Math.max(x, down.x), Math.max(y, down.y));
      const items = view.renderer.itemsIn(x0, y0, x1, y1);
      view.select(items.flatMap((i) => view.scene.nodesOf(i)), { add: more });
      return;
    }
    const item = view.renderer.itemAt(x, y);
    if (item >= 0) {
      const nodes = view.scene.nodesOf(item);
      if (!nodes.length) view.inspect(view.scene.ref[item]);
      else view.select(nodes, { add: more || event.shiftKey });
      return;
    }
    const tensor = view.renderer.edges.at(x, y);
    if (tensor >= 0) return this.follow(tensor, event.altKey);
    if (!more) view.select([]);
  }

  /** An edge that is clicked leads to its producer; with Alt, to its consumers. */
  private follow(tensor: number, forward: boolean) {
    const { view } = this;
    const from = view.data.producer[tensor];
    const users = [...new Set(view.data.consumers(tensor))];
    if (forward ? users.length : from >= 0) view.go(forward ? users : [from]);
    else view.goTensor(tensor);
  }

  private cancel(event: PointerEvent) {
    this.fingers.delete(event.pointerId);
    this.down = undefined;
    this.band.hidden = true;
  }

  private double(event: MouseEvent) {
    const item = this.view.renderer.itemAt(...this.at(event));
    if (item >= 0) void this.view.folds.activate(item);
  }

  private key(event: KeyboardEvent) {
    if (this.view.edits.key(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation(); // a plain key means nothing to JupyterLab here, also one that means nothing to the view
    const { view } = this;
    const chosen = view.selection;
    const one = chosen.length ? chosen[0] : -1;
    const pan = (dx: number, dy: number) => {
      const { x, y, k } = view.motion.goal;
      view.motion.aim({ x: x + dx / k, y: y + dy / k, k });
    };
    const arrow: Record<string, [number, number]> = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    const keys: Record<string, () => void> = {
      "+": () => view.motion.zoom(1.4), "=": () => view.motion.zoom(1.4), "-": () => view.motion.zoom(1 / 1.4), "0": () => view.motion.fit(), f: () => view.motion.fit(),
      c: () => view.motion.show(chosen), "/": () => view.search.focus(), Escape: () => {
        view.tell("");
        view.inspector!.close();
      }, "?": () => view.help(),
      n: () => view.search.step(1), N: () => view.search.step(-1), w: () => view.toWorst(), h: () => view.folds.toggleNoise(), l: () => view.folds.toggleColumns(),
      a: () => chosen.length && view.select([...view.data.reach(chosen, true)]),
      d: () => chosen.length && view.select([...view.data.reach(chosen, false)]),
      p: () => chosen.length === 2 && view.select([...view.data.between(chosen[0], chosen[1])]),
      s: () => one >= 0 && view.select(Array.from({ length: view.data.nodes }, (_, n) => n).filter((n) => view.data.op[n] === view.data.op[one])),
      Enter: () => one >= 0 && view.scene.itemOf[one] >= 0 && void view.folds.activate(view.scene.itemOf[one]),
      Backspace: () => this.collapse(one),
    };
    if (arrow[event.key]) {
      if (event.shiftKey || one < 0) {
        if (!event.shiftKey && one < 0 && view.motion.near) this.first();
        else pan(arrow[event.key][0] * 80, arrow[event.key][1] * 80);
      } else this.walk(one, arrow[event.key]);
    } else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  }

  /** The node in the middle of the view. */
  private first() {
    const { view } = this;
    const { camera } = view.renderer;
    let [best, near] = [-1, Infinity];
    view.scene.kind.forEach((kind, i) => {
      if (kind !== NODE) return;
      const far = Math.hypot(view.scene.x[i] - camera.x, view.scene.y[i] - camera.y);
      if (far < near) [best, near] = [i, far];
    });
    if (best >= 0) view.go([view.scene.ref[best]]);
  }

  private walk(node: number, [dx, dy]: [number, number]) {
    const { data, scene } = this.view;
    const item = scene.itemOf[node];
    if (dy) {
      const found = (dy < 0
        ? Array.from(data.inputs(node)).map((t) => (t >= 0 ? data.producer[t] : -1))
        : Array.from(data.outputs(node)).flatMap((t) => (t >= 0 ? [...data.consumers(t)] : []))
      ).filter((n) => n >= 0 && scene.itemOf[n] >= 0 && scene.itemOf[n] !== item);
      // the closest: along the trunk
      found.sort((a, b) => Math.abs(scene.y[scene.itemOf[a]] - scene.y[item]) - Math.abs(scene.y[scene.itemOf[b]] - scene.y[item]) ||
        Math.abs(scene.x[scene.itemOf[a]] - scene.x[item]) - Math.abs(scene.x[scene.itemOf[b]] - scene.x[item]));
      if (found.length) this.view.go([found[0]]);
      return;
    }
    let [best, near] = [-1, Infinity];
    scene.kind.forEach((kind, i) => {
      const far = (scene.x[i] - scene.x[item]) * dx;
      if ((kind === NODE || kind === GROUP) && scene.y[i] === scene.y[item] && far > 0 && far < near) [best, near] = [i, far];
    });
    if (best >= 0) this.view.go(scene.nodesOf(best).slice(0, 1));
  }

  private collapse(node: number) {
    if (node < 0) return;
    const { view } = this;
    const { scopes } = view.data.head;
    const item = view.scene.itemOf[node];
    const scope = item >= 0 && view.scene.kind[item] === GROUP ? scopes[view.scene.ref[item]][0] : view.data.scope[node];
    if (scope > 0) void view.folds.collapse(`${view.data.home[node]}:${scope}`);
  }
}
