// Makes a component of a policy: node componentize.mjs SOURCE WIT WORLD OUTPUT.
// What would bring WASI in is replaced with stubs that give up: a policy gets no clock,
// no randomness, no files and no network.
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { componentize } from 'componentize-qjs';

// The engine exports an `init` of its own, and two of that name cannot be linked. So
// the hook is called otherwise until the component is made, and only then changes
// places with the engine's, which nobody calls any more.
const HOOK = 'init';
const MEANWHILE = 'init-hook';
const ENGINES = 'aio:engine/init';

/** What JavaScript calls it. */
const camelCase = (name) => name.replace(/-(.)/g, (_, first) => first.toUpperCase());

/** Copies the WIT with the hook renamed; returns the names of the functions that it exports. */
async function renameInWit(from, to) {
  await rm(to, { recursive: true, force: true });
  await cp(from, to, { recursive: true });
  const functions = [];
  for (const file of (await readdir(to)).filter((name) => name.endsWith('.wit'))) {
    // What stands in comments is not exported.
    const text = (await readFile(join(to, file), 'utf8')).replace(/\/\/.*$|\/\*[^]*?\*\//gm, '');
    const renamed = text.replace(/(\bexport\s+)([\w-]+)(?=\s*:\s*func\b)/g, (_, before, name) => {
      functions.push(name);
      return before + (name === HOOK ? MEANWHILE : name);
    });
    await writeFile(join(to, file), renamed);
  }
  return functions;
}

/** A number as WebAssembly has it (LEB128). */
function leb(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  return Buffer.from([...bytes, number]);
}

/** A component's own sections: kind, payload, and where they begin and end. */
function* sections(component) {
  for (let at = 8; at < component.length; ) {
    const begin = at;
    const kind = component[at++];
    let length = 0;
    for (let scale = 1, more = true; more; scale *= 128) {
      length += (component[at] & 127) * scale;
      more = component[at++] > 127;
    }
    const payload = component.subarray(at, at + length);
    at += length;
    yield { kind, payload, begin, end: at };
  }
}

/** The component with an export renamed. */
function renameExport(component, from, to) {
  const EXPORTS = 11;
  // Before a name stand its kind, which is plain, and its length.
  const named = (name) => Buffer.from([0, name.length, ...Buffer.from(name)]);
  for (const { kind, payload, begin, end } of sections(component)) {
    const at = kind === EXPORTS ? payload.indexOf(named(from)) : -1;
    if (at < 0) continue;
    const rest = payload.subarray(at + named(from).length);
    const renamed = Buffer.concat([payload.subarray(0, at), named(to), rest]);
    const section = [Buffer.from([kind]), leb(renamed.length), renamed];
    return Buffer.concat([component.subarray(0, begin), ...section, component.subarray(end)]);
  }
  throw new Error(`the component exports no ${from}`);
}

const [source, wit, world, output] = process.argv.slice(2);
try {
  const witPath = `${output}.wit`;
  const functions = await renameInWit(wit, witPath);
  // Relative, so that no path of this machine gets into the component.
  const policy = JSON.stringify(`./${relative(dirname(output), source)}`);
  // Named one by one: what the policy lacks is an error here, and not when it is called.
  const names = functions.map((name) =>
    name === HOOK ? `${HOOK} as ${camelCase(MEANWHILE)}` : camelCase(name));
  const jsSource = `export { ${names.join(', ')} } from ${policy};`;
  const jsPath = `${output}.js`;
  await writeFile(jsPath, jsSource);
  const made = await componentize({
    witPath,
    world,
    jsSource,
    jsPath,
    moduleRoot: resolve('.'),
    stubWasi: true,
    sync: true,
  });
  const aside = renameExport(made.component, HOOK, ENGINES);
  await writeFile(output, functions.includes(HOOK) ? renameExport(aside, MEANWHILE, HOOK) : aside);
} catch (error) {
  // The stack is this file's and the tool's: it says nothing to the policy's author.
  console.error(error.message.replace(/^[\s:]+/, ''));
  process.exit(1);
}
