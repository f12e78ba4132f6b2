import { el } from "./dom";

const KEYS: [string, string][] = [
  ["wheel, pinch, + −", "zoom to the pointer"], ["drag, Shift+arrows", "move"], ["0 · C", "show everything · centre the selection"],
  ["/", "search; Enter and Shift+Enter step through"], ["↑ ↓ ← →", "to the producer, the consumer, the neighbours"],
  ["Enter, double click", "open a body, expand a module"], ["Backspace", "collapse the module of the selection"],
  ["Shift+drag", "select a rectangle"], ["Ctrl+click", "add to the selection"],
  ["A · D · P · S", "ancestors · descendants · path between two · same operator"],
  ["W · H · L", "step through what is marked, the highest value first · hide noise · columns"], ["Esc", "clear"],
];

const EDITS: [string, string][] = [
  ["M, right click", "what can be done with the selection, or with the model"], ["F2 · G · X", "rename · put into a module · extract"],
  ["Del · Shift+Del", "delete: bypass · cut"], ["O", "add the output of a node to those of the model"],
  ["Ctrl+Z · Ctrl+Shift+Z · Y", "undo · redo · history"],
];

export function help(root: HTMLElement, edits: boolean) {
  const old = root.querySelector(".wbg-help");
  if (old) return old.remove();
  const list = el("dl");
  for (const [keys, what] of edits ? [...KEYS, ...EDITS] : KEYS) list.append(el("dt", {}, el("kbd", {}, keys)), el("dd", {}, what));
  const box = el("div", { class: "wbg-help", role: "dialog", "aria-label": "Keyboard and mouse", tabindex: "-1" },
    el("b", {}, "Keyboard and mouse"), list);
  const before = document.activeElement as HTMLElement | null;
  const close = () => {
    box.remove();
    if (before?.isConnected) before.focus();
  };
  box.addEventListener("keydown", (event) => ["Escape", "?"].includes(event.key) && close());
  box.addEventListener("click", close);
  root.append(box);
  box.focus();
}
