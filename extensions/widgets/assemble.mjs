// AssemblyScript to WebAssembly.
import asc from "assemblyscript/asc";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));

/** The code that a source, named from this folder, gives; `checked` looks at the bounds of every array. */
export async function assembled(path, checked = false) {
  const options = ["-O3", "--runtime", "stub", "--uncheckedBehavior", checked ? "never" : "always", "--baseDir", here, "--outFile", "out.wasm"];
  let code;
  const { error, stderr } = await asc.main([path, ...options], { writeFile: (_, data) => void (code = data) });
  if (error) throw new Error(`${path} does not compile: ${error.message}\n${stderr.toString()}`);
  return code;
}
