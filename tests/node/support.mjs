/** The common ground of the tests: a server of their own, a Chromium, windows that must stay free of errors. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test as nodeTest } from 'node:test';

import { chromium } from 'playwright-core';

/** The time after which an action counts as hanging: however busy the machine is, nothing that works takes so long. */
export const HANG_MS = 120_000;
const READY_MS = 60_000;
export const STEP_MS = 60_000;
const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** The configuration of a server: the tests bring more guests in a minute, all from one address, than it takes from strangers. */
const CONFIGURATION = '[limits]\nguests_per_address = 1000\n';

/** The open windows: those of a test that fails are told of. */
const windows = new Set();
/** The most of a window's text that is told. */
const TEXT_MOST = 1500;

/** A test that can't hang for ever; when it fails, it tells what its windows show. */
export const test = (name, run) => nodeTest(name, { timeout: HANG_MS }, async (t) => {
  try {
    await run(t);
  } catch (error) {
    const shown = await Promise.all([...windows].map(shownBy));
    throw new Error([error.message, ...shown].join('\n\n'), { cause: error });
  }
});

/** The address, the wire, the faults and the text of a window. */
async function shownBy(page) {
  try {
    const [wire, text] = await page.evaluate(() => [document.querySelector('.wire')?.outerHTML ?? '', document.body.innerText]);
    return [`Window at ${page.url()}`, wire, ...page.faults, text.slice(0, TEXT_MOST)].join('\n');
  } catch (error) {
    return `Window at ${page.url()}: ${error.message}`;
  }
}

/** A running server; `url` is where it listens. */
export class Server {
  /** With these variables in its environment. */
  static async start(environment = {}) {
    const server = new Server();
    server.environment = environment;
    server.home = await mkdtemp(join(tmpdir(), 'everywire-node-'));
    await writeFile(join(server.home, 'everywire.toml'), CONFIGURATION);
    await server.run('127.0.0.1:0');
    return server;
  }

  async run(http) {
    const binary = process.env.EVERYWIRE_BIN;
    if (!existsSync(binary ?? '')) throw new Error(`there is no binary at ${binary}: cargo build -p everywire-server`);
    const ready = join(this.home, 'ready.json');
    await rm(ready, { force: true });
    const options = ['serve', '--http', http, '--tcp', 'off', '--mqtt', this.mqtt ?? '127.0.0.1:0', '--data', join(this.home, 'data'), '--ready-file', ready];
    this.process = spawn(binary, options, { cwd: this.home, env: { ...process.env, ...this.environment }, stdio: ['ignore', 'ignore', 'ignore'] });
    const addresses = await this.addresses(ready);
    this.url = `http://${addresses.http}`;
    this.mqtt = addresses.mqtt;
  }

  async addresses(file) {
    for (const begun = Date.now(); Date.now() - begun < READY_MS; await pause(10)) {
      if (this.process.exitCode !== null) throw new Error('the server ended instead of getting ready');
      try {
        return JSON.parse(await readFile(file, 'utf8'));
      } catch { /* not there yet, or not whole yet */ }
    }
    throw new Error('the server did not get ready');
  }

  /** Kills it and starts it again on the same port and data. */
  async restart(meanwhile = async () => {}) {
    await this.end('SIGKILL');
    await meanwhile();
    await this.run(new URL(this.url).host);
  }

  async end(signal = 'SIGTERM') {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill(signal);
    await ended;
  }

  async stop() {
    await this.end('SIGKILL');
    await rm(this.home, { recursive: true, force: true });
  }
}

/** A Chromium whose windows collect what goes wrong in them. */
export class Browser {
  static async launch() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    return browser;
  }

  /** A window of its own profile, on an address if there is one. */
  async window(address, options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en', ...options });
    context.setDefaultTimeout(STEP_MS);
    const page = await context.newPage();
    windows.add(page);
    page.on('close', () => windows.delete(page));
    page.faults = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) page.faults.push(message.text());
    });
    page.on('pageerror', (error) => page.faults.push(String(error)));
    if (address) await page.goto(address);
    return page;
  }

  async close() {
    await this.chromium.close();
  }
}
