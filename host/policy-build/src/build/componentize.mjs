// Makes a component of a policy: node componentize.mjs SOURCE WIT WORLD OUTPUT.
// All that would bring WASI in is disabled: a policy gets no clock, no randomness,
// no files and no network.
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [sourcePath, witPath, worldName, output] = process.argv.slice(2);
try {
  const { component } = await componentize({
    sourcePath,
    witPath,
    worldName,
    disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
  });
  await writeFile(output, component);
} catch (error) {
  // The stack is this file's and the tool's: it says nothing to the policy's author.
  console.error(error.message);
  process.exit(1);
}
