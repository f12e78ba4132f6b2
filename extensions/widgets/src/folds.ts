// Which of the model is in the picture: modules that are collapsed, bodies that are open, noise that is hidden, columns.
import type { Choice } from "./scene";
import { GROUP, NODE } from "./scene";
import type { View } from "./view";

export class Folds {
  collapsed = new Set<string>(); // "graph:scope"
  opened = new Set<number>(); // nodes whose bodies are shown
  wrap = true;

  constructor(private view: View) {}

  get choice(): Choice {
    return { collapsed: this.collapsed, opened: this.opened, hide: this.view.state.hide, wrap: this.wrap };
  }

  private hide(what: string[]) {
    this.view.state.hide = what;
    this.view.host.set({ hide: what });
  }

  toggleNoise() {
    this.hide(this.view.state.hide.length ? [] : ["identity", "shape"]);
    void this.view.rearrange();
  }

  toggleColumns() {
    this.wrap = !this.wrap;
    void this.view.rearrange().then(() => this.view.motion.fit());
  }

  /** Opens the bodies of a node, or shuts them. */
  async toggle(node: number) {
    const { view } = this;
    if (!this.opened.delete(node)) this.opened.add(node);
    await view.rearrange(node);
    if (view.selection.length === 1) view.inspector!.show(view.selection);
  }

  /** Enter or double click on an item. */
  async activate(item: number) {
    const { scene, data, motion } = this.view;
    if (scene.kind[item] === GROUP) {
      const key = scene.scopeKey.get(item)!;
      const members = scene.nodesOf(item);
      this.collapsed.delete(key);
      const [graph, scope] = key.split(":");
      // its inner modules stay folded when they are many
      const inner = new Set(members.map((n) => this.child(data.scope[n], Number(scope))).filter((s) => s > 0));
      if (inner.size > 1 && members.length > 40) for (const s of inner) this.collapsed.add(`${graph}:${s}`);
      await this.view.rearrange();
      motion.show(members);
    } else if (scene.kind[item] === NODE && data.bodies.has(scene.ref[item])) await this.toggle(scene.ref[item]);
    else motion.showItems([item]);
  }

  /** The module right below another one that a module is in. */
  private child(scope: number, above: number): number {
    const { scopes } = this.view.data.head;
    let s = scope;
    while (s > 0 && scopes[s][0] !== above) s = scopes[s][0];
    return s;
  }

  async collapse(key: string) {
    this.collapsed.add(key);
    await this.view.rearrange();
    const { scene, motion } = this.view;
    const item = scene.kind.findIndex((_, i) => scene.scopeKey.get(i) === key);
    if (item >= 0) motion.showItems([item]);
  }

  collapseAll() {
    const { data } = this.view;
    const size = new Map<number, number>();
    for (let n = 0; n < data.nodes; n++) {
      const s = this.child(data.scope[n], 0);
      if (s > 0) size.set(s, (size.get(s) ?? 0) + 1);
    }
    this.collapsed = new Set([...size].filter(([, k]) => k > 1).map(([s]) => `0:${s}`));
    void this.view.rearrange().then(() => this.view.motion.fit());
  }

  expandAll() {
    const { motion } = this.view;
    this.collapsed.clear();
    void this.view.rearrange().then(() => motion.look()).then(() => motion.redraw());
  }

  /** Opens what hides these nodes: bodies and hidden noise (a collapsed module stands for its nodes). */
  async reveal(nodes: number[]) {
    const { data, scene, state } = this.view;
    let changed = false;
    for (const n of nodes) {
      for (let g = data.home[n]; data.head.graphs[g].owner >= 0; g = data.home[data.head.graphs[g].owner]) {
        const { owner } = data.head.graphs[g];
        if (!this.opened.has(owner)) changed = true;
        this.opened.add(owner);
      }
      if (scene.itemOf[n] < 0 && state.hide.length && !changed) {
        this.hide([]);
        changed = true;
      }
    }
    if (changed) await this.view.rearrange();
  }
}
