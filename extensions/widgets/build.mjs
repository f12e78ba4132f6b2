// Builds one bundle per widget into workbench/widgets/static (or the folder that is named); the worker goes in as text.
import { build } from "esbuild";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../../workbench/widgets/static"));
const common = { bundle: true, minify: true, target: "es2022", charset: "utf8", legalComments: "none", absWorkingDir: here };

const worker = {
  name: "worker",
  setup(build_) {
    build_.onResolve({ filter: /^worker:/ }, (args) => ({ path: resolve(args.resolveDir, args.path.slice(7)), namespace: "worker" }));
    build_.onLoad({ filter: /.*/, namespace: "worker" }, async (args) => {
      const made = await build({ ...common, entryPoints: [args.path], format: "iife", write: false });
      return { contents: made.outputFiles[0].text, loader: "text" };
    });
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

const made = await build({
  ...common, entryPoints: ["src/graph.ts"], format: "esm", outfile: join(out, "graph.js"), plugins: [worker, css], metafile: true,
});
for (const [name, { bytes }] of Object.entries(made.metafile.outputs)) console.log(name, bytes);
