/** The pages and the client in Firefox. */

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import puppeteer from 'puppeteer-core';

import { Proxy } from './proxy.mjs';
import { STEP_MS, Server, test } from './support.mjs';

const FIREFOX = '/usr/bin/firefox-esr';

let server;
let firefox;
before(async () => {
  server = await Server.start();
  firefox = await puppeteer.launch({ browser: 'firefox', executablePath: FIREFOX, headless: true });
});
after(async () => {
  await firefox.close();
  await server.stop();
});

async function tab(address) {
  const page = await firefox.newPage();
  page.setDefaultTimeout(STEP_MS);
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  await page.goto(address);
  return page;
}

test('home is alive, and what is said comes over every wire', async () => {
  const page = await tab(`${server.url}/`);
  await page.waitForFunction(() => document.querySelectorAll('.lamp[data-state=lit]').length === 5);
  await page.type('#say', '<i>hi</i>');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('.now').textContent.includes('5 of 5'));
  assert.equal(await page.$eval('.said li span', (line) => line.textContent), '<i>hi</i>');
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('the lab draws every lane, and a cut loses nothing', async () => {
  const page = await tab(`${server.url}/lab`);
  await page.waitForSelector('.claims button');
  await page.evaluate(() => [...document.querySelectorAll('.claims button')].at(-1).click());
  await page.waitForFunction(() => {
    const cells = [...document.querySelectorAll('table [data-label=Messages]')];
    return cells.length === 5 && cells.every((cell) => Number(cell.textContent) >= 25);
  });
  assert.deepEqual(await page.$$eval('table [data-label=Lost]', (cells) => cells.map(({ textContent }) => textContent)), ['0', '0', '0', '0', '0']);
  // Firefox notes a socket that the cut has met while it was connecting.
  assert.deepEqual(page.faults.filter((fault) => !/can’t establish a connection to the server at wss?:/.test(fault)), []);
  await page.close();
});

test('the chat: a name is enough, and what is said is kept and heard', async () => {
  const page = await tab(`${server.url}/chat`);
  const type = async (selector, text) => {
    await page.waitForSelector(selector);
    await page.type(selector, text);
    await page.keyboard.press('Enter');
  };
  await type('#guest', 'Fox');
  await type('#make', 'Den');
  await type('#composer', 'hello from the den');
  await page.waitForSelector('.line .mark[aria-label=kept]');
  assert.equal(await page.$eval('.line .text', (text) => text.textContent), 'hello from the den');
  await page.waitForFunction(() => document.querySelector('.line .who b').textContent === 'Fox');
  assert.deepEqual(page.faults, []);
  await page.close();
});

for (const [name, faults, wire] of [
  ['nothing in the way', {}, 'ws'],
  ['upgrades blocked', { upgrades: 'block' }, 'sse'],
  ['frames swallowed and streams buffered', { upgrades: 'swallow', events: 'buffer' }, 'longpoll'],
  ['504 for what hangs', { upgrades: 'block', patienceMs: 500 }, 'poll'],
  ['cuts', { cutMs: 300 }, 'ws'],
]) {
  test(`the client with ${name}: everything, in order, once, over ${wire} in the end`, async (t) => {
    const proxy = await Proxy.start(server.url);
    t.after(() => proxy.stop());
    const topic = `firefox/${name.replaceAll(/\W/g, '')}`;
    const page = await tab(`${proxy.url}/web/docs/http.md`);
    await page.evaluate(() => import('/web/sdk/everywire.js').then(() => {}));
    // The files of a page have no second chance, and a slow machine needs longer for them than a proxy waits.
    Object.assign(proxy, faults);
    await page.evaluate(async (topic) => {
      const { Everywire } = await import('/web/sdk/everywire.js');
      globalThis.client = new Everywire(undefined, { retryMs: [20, 200], pollMs: 50 });
      globalThis.got = [];
      globalThis.wires = [];
      globalThis.client.on('state', ({ wire }) => globalThis.wires.push(wire));
      await globalThis.client.subscribe(topic, ({ body }) => { globalThis.got.push(body); }).ready;
    }, topic);
    await page.waitForFunction((wire) => globalThis.wires.includes(wire), {}, wire);
    await page.evaluate((topic) => Promise.all(Array.from({ length: 40 }, (_, n) => globalThis.client.publish(topic, n))), topic);
    await page.waitForFunction(() => globalThis.got.length >= 40);
    assert.deepEqual(await page.evaluate(() => globalThis.got), Array.from({ length: 40 }, (_, n) => n));
    await page.close();
  });
}
