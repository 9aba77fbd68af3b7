/** People in windows of the chat, as its tests share them. */

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';

import { Browser, Server } from './support.mjs';

export { test } from './support.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.EVERYWIRE_PICTURES ?? join(tmpdir(), 'everywire-pictures');

export let server;
export let browser;
before(async () => {
  await mkdir(PICTURES, { recursive: true });
  [server, browser] = await Promise.all([Server.start(), Browser.launch()]);
});
after(async () => {
  await browser.close();
  await server.stop();
});

export const picture = (page, name) => page.screenshot({ path: join(PICTURES, `chat-${name}.png`) });

/** Somebody in a window of their own, who comes in as a guest. */
export async function person(t, name, { path = '', ready = () => {}, ...options } = {}) {
  const page = await browser.window(undefined, options);
  t.after(() => page.context().close());
  await ready(page);
  await page.goto(`${server.url}/chat${path}`);
  await page.locator('#guest').fill(name);
  await page.locator('#guest').press('Enter');
  await page.locator('.chat').waitFor();
  return page;
}

/** Makes a room and stands in it. */
export async function room(page, title) {
  await page.locator('#make').fill(title);
  await page.locator('#make').press('Enter');
  await page.locator('#talk-title').filter({ hasText: title }).waitFor();
  await ready(page);
  return new URL(page.url()).hash;
}

/** The open room follows what is said from here on. */
export async function ready(page) {
  await page.locator('.lines[aria-busy=false]').waitFor();
  await page.locator('#composer').waitFor();
}

/** Ann in a room of her own, and Bob, who has followed her link. */
export async function pair(t, title, { ann = {}, bob = {} } = {}) {
  const a = await person(t, 'Ann', ann);
  const path = await room(a, title);
  const b = await person(t, 'Bob', { path, ...bob });
  await b.getByRole('button', { name: 'Join' }).click();
  await ready(b);
  return [a, b, path];
}

export async function say(page, text) {
  await page.locator('#composer').fill(text);
  await page.locator('#composer').press('Enter');
}

/** The mark of a line that the server has taken; it may have been read already. */
export const KEPT = '.mark:not([aria-label=waiting])';
export const line = (page, text) => page.locator('.line').filter({ hasText: text });
export const heard = (page, text) => line(page, text).first().waitFor();
/** Two frames have been painted: what was scrolled or has come is known to the page. */
export const settled = (page) => page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));

/** Opens what one can do with a line. */
export async function unfold(page, text) {
  await line(page, text).hover();
  await line(page, text).locator('.open').click();
}

/** Keeps what a window publishes back until `resolve` is called. */
export async function withhold(page) {
  const go = promise();
  await page.route('**/v1/messages?*', (route) => (route.request().method() === 'POST' ? go.done.then(() => route.continue()) : route.continue()));
  return go;
}

export const texts = (page) => page.locator('.line[data-id] .text').allTextContents();
export const tokenOf = (page) => page.evaluate(() => sessionStorage.getItem('everywire:token'));
export const topicOf = (path) => `room/${path.split('/')[2]}`;

/** Publishes as the user whose window it is, past the page. */
export async function publish(page, topic, bodies) {
  const headers = { Authorization: `Bearer ${await tokenOf(page)}` };
  const messages = bodies.map((body) => ({ topic, body, event: 'chat' }));
  for (let at = 0; at < messages.length; at += 100) {
    const answer = await fetch(`${server.url}/v1/batch`, { method: 'POST', headers, body: JSON.stringify({ messages: messages.slice(at, at + 100) }) });
    assert.ok((await answer.json()).every(({ status }) => status === 200));
  }
}

export async function findings(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

/** Changes the wire of a window, and waits until it runs. */
export async function speaks(page, wire) {
  await page.locator('#wire').selectOption(wire);
  await page.locator(`.wire[data-wire=${wire}]`).waitFor();
}

/** Lets a test say something over a window's WebSocket in the server's place. */
export function injector() {
  let send;
  const ready = (page) => page.routeWebSocket('**/v1/ws', (socket) => {
    const upstream = socket.connectToServer();
    upstream.onMessage((text) => socket.send(text));
    send = (frame) => socket.send(JSON.stringify(frame));
  });
  return { ready, inject: (frame) => send(frame) };
}

/** A promise, with the function that keeps it. */
export function promise() {
  let resolve = () => {};
  return { done: new Promise((keep) => { resolve = keep; }), resolve: () => resolve() };
}
