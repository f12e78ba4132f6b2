// The context menu: with the mouse, or with the keyboard alone.
import { el } from "./dom";

export interface Item {
  label: string;
  key?: string;
  act(): void;
}

/** Shows a menu at a place of the view; an empty label is a line. */
export function menu(root: HTMLElement, items: Item[], x: number, y: number, title: string) {
  root.querySelector(".wbg-menu")?.remove();
  const before = document.activeElement as HTMLElement | null;
  const close = (focus = true) => {
    box.remove();
    document.removeEventListener("pointerdown", outside, true);
    if (focus && before?.isConnected) before.focus();
  };
  const outside = (event: Event) => box.contains(event.target as Node) || close(false);
  const box = el("div", { class: "wbg-menu", role: "menu", "aria-label": title }, ...items.map((item) =>
    item.label ? el("button", { role: "menuitem", tabindex: "-1", click: () => {
      close();
      item.act();
    } }, item.label, item.key ? el("kbd", {}, item.key) : null) : el("hr")));
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const rows = [...box.querySelectorAll("button")];
    const at = rows.indexOf(document.activeElement as HTMLButtonElement);
    const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    if (event.key in to) rows.at(to[event.key] % rows.length)!.focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key.length === 1) {
      const found = [...rows.slice(at + 1), ...rows].find((row) => row.textContent!.toLowerCase().startsWith(event.key.toLowerCase()));
      return found?.focus();
    } else return undefined;
    return event.preventDefault();
  });
  root.append(box);
  const [w, h] = [root.clientWidth, root.clientHeight];
  box.style.left = `${Math.max(4, Math.min(x, w - box.offsetWidth - 6))}px`;
  box.style.top = `${Math.max(4, Math.min(y, h - box.offsetHeight - 6))}px`;
  box.querySelector("button")?.focus();
  document.addEventListener("pointerdown", outside, true);
}
