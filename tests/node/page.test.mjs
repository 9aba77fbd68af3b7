/** The first page in a real Chromium: what a newcomer does in his first five minutes. */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';

import { Browser, Server, column, counter, live, shows, texts } from './support.mjs';

const TRANSPORTS = ['poll', 'longpoll', 'sse', 'ws', 'mqtt'];
const PICTURES = process.env.EVERYWIRE_PICTURES ?? join(tmpdir(), 'everywire-pictures');

let browser;
let server;

before(async () => { browser = await Browser.launch(); });
after(async () => { await browser.close(); });
beforeEach(async () => { server = await Server.start(); });
afterEach(async () => {
  await Promise.all(browser.chromium.contexts().map((context) => context.close()));
  await server.stop();
});

async function allLive(page) {
  await Promise.all(TRANSPORTS.map((via) => live(page, via)));
}

test('a message typed in one window appears in three others, each over another transport', async () => {
  const address = (via) => `${server.url}/?topic=room/7&via=${via}`;
  const writer = await browser.window(address('sse'));
  const readers = await Promise.all(TRANSPORTS.map(async (via) => ({ via, page: await browser.window(address(via)) })));
  await Promise.all(readers.map(({ page, via }) => live(page, via)));
  await writer.getByRole('textbox', { name: 'Message' }).fill('hello, everybody');
  await writer.getByRole('textbox', { name: 'Message' }).press('Enter');
  for (const { page, via } of readers) {
    await shows(page, via, ['hello, everybody']);
    assert.equal(await page.locator('.column').count(), 1);
    assert.deepEqual(page.faults, []);
  }
  assert.deepEqual(writer.faults, []);
});

test('everything can be done by keyboard', async () => {
  const page = await browser.window(`${server.url}/`);
  await allLive(page);
  await reach(page, 'body');
  await page.keyboard.type('first line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second line');
  await page.keyboard.press('Enter');
  for (const via of TRANSPORTS) await shows(page, via, ['first line\nsecond line']);
  assert.match(await page.locator('#published').textContent(), /^Published in \d+ ms · fsync/);
  assert.match(await page.locator('#announcer').textContent(), /first line/);

  await reach(page, 'Stop SSE');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'the focus can be seen');
  await page.keyboard.press('Space');
  await page.locator('.column[data-via=sse][data-state=stopped]').waitFor();
  assert.deepEqual(page.faults, []);
});

/** Tabs until the element with this id or accessible name has the focus. */
async function reach(page, name) {
  for (let steps = 0; steps < 60; steps += 1) {
    await page.keyboard.press('Tab');
    const focused = await page.evaluate(() => [document.activeElement.id, document.activeElement.ariaLabel]);
    if (focused.includes(name)) return;
  }
  assert.fail(`${name} can't be reached by the keyboard`);
}

test('a stopped column goes on by its cursor, without gap or duplicate', async () => {
  const page = await browser.window(`${server.url}/`);
  await allLive(page);
  const message = page.getByRole('textbox', { name: 'Message' });
  const publish = async (text) => {
    await message.fill(text);
    await message.press('Enter');
    await shows(page, 'sse', [...(await texts(page, 'sse')).filter((seen) => seen !== text), text]);
  };
  await publish('one');
  for (const via of ['poll', 'longpoll']) {
    await shows(page, via, ['one']);
    await column(page, via).getByRole('button').click();
    await page.locator(`.column[data-via=${via}][data-state=stopped]`).waitFor();
  }
  await publish('two');
  await publish('three');
  for (const via of ['poll', 'longpoll']) {
    assert.deepEqual(await texts(page, via), ['one']);
    await column(page, via).getByRole('button').click();
    await shows(page, via, ['one', 'two', 'three']);
    assert.equal(await counter(page, via, 'gaps'), 0);
  }
  assert.deepEqual(page.faults, []);
});

test('all columns come back after the server was killed', async () => {
  const page = await browser.window(`${server.url}/`);
  await allLive(page);
  const publish = (body) => fetch(`${server.url}/v1/messages?topic=room/42`, { method: 'POST', body });
  await publish('before');
  for (const via of TRANSPORTS) await shows(page, via, ['before']);
  await server.restart();
  await publish('after');
  for (const via of TRANSPORTS) {
    await shows(page, via, ['before', 'after']);
    assert.equal(await counter(page, via, 'gaps'), 0);
  }
});

test('the counters show what each transport costs', async () => {
  const page = await browser.window(`${server.url}/`);
  await allLive(page);
  await page.getByRole('button', { name: 'Publish 20' }).click();
  for (const via of TRANSPORTS) {
    await page.waitForFunction((name) => document.querySelector(`.column[data-via=${name}] [data-counter=messages]`).textContent === '20', via);
    assert.match(await column(page, via).locator('[data-counter=median]').textContent(), /^\d+ ms$/);
  }
  await page.waitForFunction(() => Number(document.querySelector('.column[data-via=poll] [data-counter=empty]').textContent) >= 2);
  assert.equal(await counter(page, 'sse', 'requests'), 1);
  assert.ok(await counter(page, 'longpoll', 'requests') < await counter(page, 'poll', 'requests') + 20);
  assert.deepEqual(page.faults, []);
});

test('a refused publish says why and keeps the text', async () => {
  const page = await browser.window(`${server.url}/`);
  await page.getByLabel('Type', { exact: true }).selectOption('application/json');
  await page.getByRole('textbox', { name: 'Message' }).fill('{"not": json');
  await page.getByRole('textbox', { name: 'Message' }).press('Enter');
  await page.locator('#published.bad').waitFor();
  assert.match(await page.locator('#published').textContent(), /JSON/i);
  assert.equal(await page.getByRole('textbox', { name: 'Message' }).inputValue(), '{"not": json');
});

test('a retained message greets a window that comes later', async () => {
  const query = 'topic=room/9&retain=1';
  await fetch(`${server.url}/v1/messages?${query}`, { method: 'POST', body: 'welcome' });
  const page = await browser.window(`${server.url}/?topic=room/9&via=sse`);
  await shows(page, 'sse', ['welcome']);
  assert.deepEqual(page.faults, []);
});

test('another topic is followed from its earliest message', async () => {
  await fetch(`${server.url}/v1/messages?topic=a/b`, { method: 'POST', body: 'history' });
  const page = await browser.window(`${server.url}/`);
  await page.getByLabel('Topic', { exact: true }).fill('a/b');
  await page.getByLabel('from', { exact: true }).selectOption('earliest');
  await page.getByRole('button', { name: 'Follow' }).click();
  for (const via of TRANSPORTS) await shows(page, via, ['history']);
  assert.match(page.url(), /topic=a%2Fb/);
  assert.deepEqual(page.faults, []);
});

test('an operator sees who is connected, and ends a connection', async () => {
  const token = (await readFile(join(server.home, 'data', 'admin.token'), 'utf8')).trim();
  const reader = await browser.window(`${server.url}/?topic=room/1&via=ws`);
  await live(reader, 'ws');
  assert.equal(await reader.locator('#connections').isVisible(), false, 'not for everybody');
  const page = await browser.window(`${server.url}/?topic=room/2&via=sse#token=${token}`);
  const row = page.locator('#connections tbody tr').filter({ hasText: 'ws' });
  await row.waitFor();
  await row.getByRole('button').click();
  await reader.locator('.column[data-via=ws][data-state=refused]').waitFor();
  assert.match(await reader.locator('.column .state').textContent(), /kicked/);
  await row.waitFor({ state: 'detached' });
  assert.deepEqual(page.faults, []);
});

for (const [width, height] of [[360, 740], [820, 1100], [1280, 800]]) {
  test(`nothing overflows at ${width} pixels, light and dark`, async () => {
    await mkdir(PICTURES, { recursive: true });
    for (const colorScheme of ['light', 'dark']) {
      const page = await browser.window(`${server.url}/`, { viewport: { width, height }, colorScheme });
      await page.getByRole('textbox', { name: 'Message' }).fill(`A long word: ${'x'.repeat(300)}`);
      await page.getByRole('textbox', { name: 'Message' }).press('Enter');
      await column(page, 'sse').locator('.message').first().waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      await page.screenshot({ path: join(PICTURES, `${width}-${colorScheme}.png`), fullPage: true });
      assert.equal(wide, 0, `${wide} pixels too wide`);
      assert.deepEqual(page.faults, []);
      await page.close();
    }
  });
}
