// Elements. Text from models only ever becomes a text node.

type Child = Node | string | null | undefined | false;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string | boolean | ((event: never) => void)> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value as EventListener);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  for (const child of children) if (child) made.append(child);
  return made;
}

/** A picture of lines on 16 × 16, in the colour of the text. */
export function icon(path: string): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  (svg.firstChild as Element).setAttribute("d", path);
  return svg;
}

/** A button of the toolbar. */
export const tool = (title: string, path: string, act: () => void) =>
  el("button", { class: "tool", title, "aria-label": title, click: act }, icon(path));

/** At most `most` characters of a text, on one line. */
export function short(text: string, most = 300): string {
  const line = text.replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most - 40)}…${line.slice(-30)}` : line;
}

export function count(value: number): string {
  if (!Number.isFinite(value)) return "?";
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const)
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(3)));
}

/** `1.21 MB`, `16 B`. */
export const byteCount = (value: number) => count(value).replace(/\d$/, "$& ") + "B";

export function number(value: number): string {
  const size = Math.abs(value);
  return !Number.isFinite(value) ? String(value) : size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
