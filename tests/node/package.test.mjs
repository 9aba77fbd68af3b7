/** The client as a package: its size, its types, and what `npm pack` makes of it in a clean folder. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const run = promisify(execFile);
const SDK = fileURLToPath(new URL('../../sdk/js', import.meta.url));
const BIN = fileURLToPath(new URL('node_modules/.bin', import.meta.url));
const environment = { ...process.env, PATH: `${BIN}:${process.env.PATH}` };

async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'everywire-package-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** The modules that are loaded when they are asked for. */
const PARTS = ['http', 'outbox', 'kept', 'past', 'session', 'token', 'tabs'];

/** The number of bytes of the client, bundled without some of its parts. */
async function size(without) {
  const { outputFiles: [file] } = await build({
    entryPoints: [join(SDK, 'src/everywire.js')], bundle: true, external: without.map((part) => `./${part}.js`), minify: true, format: 'esm', target: 'es2022', write: false,
  });
  return gzipSync(file.contents, { level: 9 }).length;
}

test('a plain client loads fewer than 6,000 bytes, and each part that is asked for adds no more than its README says', async (t) => {
  const readme = await readFile(join(SDK, 'README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\| `(\w+)\.js` \|.*\| ([\d,]+) \|$/gm)].map(([, part, most]) => [part, Number(most.replace(',', ''))]);
  assert.deepEqual(rows.map(([part]) => part), ['everywire', ...PARTS]);
  const plain = await size(PARTS);
  t.diagnostic(`plain: ${plain} bytes; whole: ${await size([])} bytes`);
  assert.ok(plain < 6000 && plain < rows[0][1], `${plain} bytes`);
  for (const [part, most] of rows.slice(1)) {
    const added = await size(PARTS.filter((other) => other !== part)) - plain;
    t.diagnostic(`${part} adds ${added} bytes`);
    assert.ok(added < most, `${part}: ${added} bytes`);
  }
});

test('rooms are fewer than 2,000 bytes more', async (t) => {
  const { outputFiles: [file] } = await build({ entryPoints: [join(SDK, 'src/rooms.js')], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false });
  const { length } = gzipSync(file.contents, { level: 9 });
  t.diagnostic(`${length} bytes`);
  assert.ok(length < 2000, `${length} bytes`);
});

test('the types in the tree are those of the JSDoc', async (t) => {
  const fresh = await folder(t);
  await run('tsc', ['-p', SDK, '--outDir', fresh], { env: environment });
  const names = (await readdir(fresh)).sort();
  assert.deepEqual(names, (await readdir(join(SDK, 'types'))).sort());
  for (const name of names) {
    assert.equal(await readFile(join(SDK, 'types', name), 'utf8'), await readFile(join(fresh, name), 'utf8'), `${name}: npx tsc -p sdk/js`);
  }
});

const CONSUMER = `
import { Everywire, Problem, type Message, type Page } from 'everywire';
import { Rooms } from 'everywire/rooms';
const client = new Everywire('http://127.0.0.1:1', { wires: ['sse'], token: async (why) => (why === 'refused' ? 'a' : 'b'), outbox: { max: 3 } });
const subscription = client.subscribe<{ n: number }>('a', (message) => { const n: number = message.body.n; void n; });
for await (const message of client.subscribe<string>(['a', 'b'], undefined, { name: 'x' })) { const body: string = message.body; void body; break; }
client.on('state', ({ state, wire }) => { const s: 'idle' | 'connecting' | 'open' | 'waiting' | 'refused' | 'closed' = state; void s; void wire; });
client.on('gap', ({ earliest }) => earliest.length);
client.on('problem', (problem: Problem) => problem.isPassing);
const published: Promise<{ id: string; cursor: string }> = client.publish('a', { n: 1 }, { ttl: 3 });
const page: Promise<Page<number>> = client.history<number>('a', { before: 'x' });
const titles: Promise<string[]> = new Rooms(client).list('mine').then(({ rooms }) => rooms.map(({ title }) => title));
void titles;
const ready: Promise<void> = subscription.ready;
void [published, page, ready, client.use('auto'), subscription.cursor satisfies string | undefined] as unknown as Message;
// @ts-expect-error there is no such wire
client.use('carrier pigeon');
// @ts-expect-error a body has the type that was asked for
client.subscribe<{ n: number }>('a', (message) => message.body.m);
`;

test('npm pack brings a package that works from a clean folder, and whose types are strict', async (t) => {
  const [source, clean] = [await folder(t), await folder(t)];
  await cp(SDK, source, { recursive: true });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', clean], { cwd: source, env: environment });
  const [{ filename, files }] = JSON.parse(stdout);
  const names = files.map(({ path }) => path);
  for (const name of ['LICENSE', 'README.md', 'package.json', 'src/everywire.js', 'types/everywire.d.ts']) assert.ok(names.includes(name), name);
  assert.ok(names.every((name) => /^(LICENSE|README\.md|package\.json|src\/\w+\.js|types\/\w+\.d\.ts)$/.test(name)), names.join(' '));
  await writeFile(join(clean, 'package.json'), '{"type":"module"}');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(clean, filename)], { cwd: clean });
  await writeFile(join(clean, 'index.mjs'), "import { Everywire } from 'everywire'; const c = new Everywire('http://127.0.0.1:1'); console.log(c.state); await c.close();");
  assert.equal((await run('node', ['index.mjs'], { cwd: clean })).stdout, 'idle\n');
  await writeFile(join(clean, 'consumer.ts'), CONSUMER);
  await run('tsc', ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2023,dom', 'consumer.ts'], { cwd: clean, env: environment })
    .catch(({ stdout: text }) => assert.fail(text));
});
