// Runs named cases one after another and says of each, on a line of its own,
// whether it passed. The last line counts them.

import { webcrypto } from "node:crypto";

// The clients want Node.js 20. Debian 12 has 18, which lacks this alone.
globalThis.crypto ??= webcrypto;

export async function run(cases) {
  let passed = 0;
  for (const [name, test] of Object.entries(cases)) {
    try {
      await test();
      passed++;
      console.log(`ok ${name}`);
    } catch (err) {
      console.log(`FAIL ${name}`);
      console.error(`${name}: ${err.stack}`);
    }
  }
  console.log(`${passed} of ${Object.keys(cases).length} passed`);
  process.exitCode = passed === Object.keys(cases).length ? 0 : 1;
}

// fails returns the error that a promise ends in, for a closer look.
export async function fails(promise) {
  try {
    await promise;
  } catch (err) {
    return err;
  }
  throw new Error("it was answered, and should have failed");
}

export async function all(items) {
  const list = [];
  for await (const item of items) list.push(item);
  return list;
}
