// What is typed: a field with its error beside it, and a small form. Enter takes it, Escape leaves it.
import { el } from "./dom";

export interface Field {
  key: string;
  label: string;
  value?: string;
  choices?: string[]; // suggestions; with `fixed` nothing else
  fixed?: boolean;
  hint?: string;
  off?: boolean;
  long?: boolean; // several lines
}

let count = 0;

function control(f: Field): [HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement, HTMLElement?] {
  const shared = { "data-key": f.key, "aria-label": f.label, disabled: !!f.off };
  if (f.fixed) {
    const select = el("select", shared, ...f.choices!.map((word) => el("option", { value: word }, word)));
    select.value = f.value ?? "";
    return [select];
  }
  if (f.long) {
    const area = el("textarea", { ...shared, rows: "10", spellcheck: "false" });
    area.value = f.value ?? "";
    return [area];
  }
  const list = f.choices?.length ? el("datalist", { id: `wbg-list-${++count}` }, ...f.choices.map((word) => el("option", { value: word }))) : undefined;
  const input = el("input", { ...shared, type: "text", spellcheck: "false", autocomplete: "off", dir: "auto", placeholder: f.hint ?? "", ...(list ? { list: list.id } : {}) });
  input.value = f.value ?? "";
  return [input, list];
}

/** A field of the inspector; `commit` rejects with what is wrong, which is then shown below it. */
export function field(f: Field, commit: (text: string) => Promise<unknown>, ...beside: Node[]): HTMLElement {
  const [input, list] = control(f);
  const wrong = el("div", { class: "wbg-bad", id: `wbg-wrong-${++count}`, role: "alert" });
  const say = (text: string) => {
    wrong.textContent = text;
    input.setAttribute("aria-invalid", String(!!text));
  };
  input.setAttribute("aria-describedby", wrong.id);
  let [settled, busy] = [f.value ?? "", false];
  const take = () => {
    if (busy || input.value === settled) return;
    const text = input.value;
    busy = true;
    input.setAttribute("aria-busy", "true");
    say("");
    void commit(text).then(() => {
      settled = text;
      delete input.dataset.dirty;
    }, (error: Error) => say(error.message)).finally(() => {
      busy = false;
      input.removeAttribute("aria-busy");
    });
  };
  input.addEventListener("change", take);
  input.addEventListener("input", () => (input.dataset.dirty = ""));
  input.addEventListener("keydown", ((event: KeyboardEvent) => {
    event.stopPropagation();
    if (event.key === "Enter") take();
    if (event.key !== "Escape") return;
    if (input.value === settled) input.closest<HTMLElement>(".wbg")!.querySelector<HTMLElement>("canvas.graph")!.focus();
    input.value = settled;
    delete input.dataset.dirty;
    say("");
  }) as EventListener);
  return el("div", { class: "wbg-field" }, el("span", { class: "row" }, input, ...beside), list, wrong);
}

export interface Form {
  title: string;
  note?: string;
  fields: Field[];
  ok: string;
  take(values: Record<string, string>): Promise<unknown>;
}

/** Asks for several values over the view; what is wrong with them is said in it. */
export function form(root: HTMLElement, f: Form) {
  root.querySelector(".wbg-form")?.remove();
  const before = document.activeElement as HTMLElement | null;
  const wrong = el("div", { class: "wbg-bad", role: "alert" });
  const controls = f.fields.map((one) => control(one));
  const rows = f.fields.map((one, i) => el("label", {}, el("span", {}, one.label), ...controls[i].filter((c) => c !== undefined)));
  const ok = el("button", { type: "submit", class: "main" }, f.ok);
  const close = () => {
    box.remove();
    if (before?.isConnected) before.focus();
  };
  const box = el("form", { class: "wbg-form", role: "dialog", "aria-label": f.title },
    el("b", {}, f.title), f.note ? el("p", { class: "soft" }, f.note) : null, ...rows, wrong,
    el("div", { class: "wbg-acts" }, ok, el("button", { type: "button", click: close }, "Cancel")));
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    ok.disabled = true;
    wrong.textContent = "";
    void f.take(Object.fromEntries(f.fields.map((one, i) => [one.key, controls[i][0].value]))).then(close, (error: Error) => {
      wrong.textContent = error.message;
      ok.disabled = false;
    });
  });
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") close();
  });
  root.append(box);
  (controls[0]?.[0] ?? ok).focus();
  (controls[0]?.[0] as HTMLInputElement | undefined)?.select?.();
}
