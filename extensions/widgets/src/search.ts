// The search field, with results to step through.
import { el, tool } from "./dom";
import type { View } from "./view";

export class Search {
  results: number[] = [];
  private at = -1;
  private input = el("input", { type: "search", placeholder: "Search", title: "Names, operators, tensors, attributes, shapes, data types (/)", "aria-label": "Search the graph", spellcheck: "false" });
  private counter = el("span", { class: "wbg-count", "aria-live": "polite" });
  private steps = el("div", { class: "wbg-steps", hidden: true }, this.counter,
    tool("Previous result (Shift+Enter)", "M4 10l4-4 4 4", () => this.step(-1)), tool("Next result (Enter)", "M4 6l4 4 4-4", () => this.step(1)));
  readonly field = el("div", { class: "wbg-search", role: "search" }, this.input, this.steps);

  constructor(private view: View) {
    this.input.addEventListener("input", () => this.find());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") {
        this.input.value = "";
        this.find();
        view.canvas.focus();
      } else return;
      event.preventDefault();
    });
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Marks what matches; `move`: and shows the first. */
  find(move = true) {
    const { view } = this;
    const asked = this.input.value.trim();
    this.results = view.data.search(asked);
    this.at = -1;
    this.steps.hidden = !asked;
    this.counter.textContent = asked ? (this.results.length ? `${this.results.length} found` : "none") : "";
    view.mark();
    view.map.stale = true;
    view.motion.redraw();
    if (move && this.results.length) view.motion.show([this.results[0]]);
  }

  step(by: number) {
    if (!this.results.length) return;
    this.at = (Math.max(this.at, by < 0 ? 0 : -1) + by + this.results.length) % this.results.length;
    this.counter.textContent = `${this.at + 1} / ${this.results.length}`;
    this.view.go([this.results[this.at]]);
  }
}
