// Builds one bundle per widget into workbench/widgets/static (or the folder that is named).
import { build } from "esbuild";
import { deflateSync } from "fflate";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { assembled } from "./assemble.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../../workbench/widgets/static"));
const common = { bundle: true, minify: true, target: "es2022", charset: "utf8", legalComments: "none", absWorkingDir: here };

const wasm = {
  name: "wasm",
  setup(build_) {
    build_.onResolve({ filter: /^wasm:/ }, (args) => ({ path: args.path.slice(5), namespace: "wasm" }));
    build_.onLoad({ filter: /.*/, namespace: "wasm" }, async (args) => ({ contents: await assembled(args.path), loader: "binary" }));
  },
};
const css = {
  name: "css",
  setup(build_) {
    build_.onLoad({ filter: /\.css$/ }, async (args) => {
      const made = await build({ ...common, entryPoints: [args.path], write: false });
      return { contents: made.outputFiles[0].text, loader: "text" };
    });
  },
};

// The module is packed: it travels with every widget into every notebook. The compressor is JavaScript, so that the same
// sources give the same bytes with every version of node.
const { outputFiles: [{ contents }] } = await build({
  ...common, entryPoints: ["src/graph.ts"], format: "esm", write: false, plugins: [wasm, css],
});
const packed = Buffer.from(deflateSync(contents, { level: 9, mem: 12 })).toString("base64");
const bundle = `const z=Uint8Array.from(atob("${packed}"),c=>c.charCodeAt(0)),
b=await new Response(new Blob([z]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer(),
u=URL.createObjectURL(new Blob([b],{type:"text/javascript"})),
{open:o,default:d}=await import(u);
export{o as open,d as default};
`;
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "graph.js"), bundle);
console.log(join(out, "graph.js"), bundle.length, "bytes,", contents.length, "unpacked");
