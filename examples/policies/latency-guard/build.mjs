// Makes a component of policy.js: everything that would bring WASI in is disabled.
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

// The world, with the contract as a dependency of its own.
await rm('build/wit', { recursive: true, force: true });
await mkdir('build/wit/deps/policy', { recursive: true });
await cp('wit/world.wit', 'build/wit/world.wit');
await cp('../../../wit/v0.1/policy.wit', 'build/wit/deps/policy/policy.wit');

const { component } = await componentize({
  sourcePath: 'policy.js',
  witPath: 'build/wit',
  worldName: 'latency-guard',
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile('build/latency-guard.wasm', component);
console.log(`build/latency-guard.wasm: ${component.byteLength} bytes`);
