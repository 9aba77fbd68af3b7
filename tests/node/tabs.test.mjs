/** The client in browsers: several tabs of one profile, their storage, reloads and ends. */

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Proxy } from './proxy.mjs';
import { Browser, Server, test } from './support.mjs';

let server;
let browser;
let proxy;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.launch()]);
  proxy = await Proxy.start(server.url);
});
after(async () => {
  await browser.close();
  await proxy.stop();
  await server.stop();
});

/** A tab with a client and what it received, on a page that loads nothing by itself. */
async function tab(context, options = {}) {
  const page = await context.newPage();
  await page.goto(`${proxy.url}/web/docs/http.md`);
  await page.evaluate(async (options) => {
    const { Everywire } = await import('/web/sdk/everywire.js');
    globalThis.client = new Everywire(undefined, { retryMs: [20, 200], ...options });
    globalThis.got = [];
    globalThis.problems = [];
    globalThis.client.on('problem', ({ reason }) => globalThis.problems.push(reason));
    await import('/web/sdk/outbox.js');
  }, options);
  return page;
}

const subscribe = (page, topic, options) => page.evaluate(async ([topic, options]) => {
  await globalThis.client.subscribe(topic, ({ body }) => { globalThis.got.push(body); }, options).ready;
}, [topic, options]);

const has = async (page, expected) => {
  await page.waitForFunction((many) => globalThis.got.length >= many, expected.length);
  assert.deepEqual(await page.evaluate(() => globalThis.got), expected);
};

const publish = (topic, body) => fetch(`${server.url}/v1/messages?topic=${topic}`, { method: 'POST', body });

test('tabs share one connection; when the one that has it is closed, another goes on and nothing is lost', async () => {
  const context = await browser.chromium.newContext();
  const tabs = [];
  proxy.requests.length = 0;
  for (let i = 0; i < 3; i += 1) {
    tabs.push(await tab(context, { share: true }));
    await subscribe(tabs[i], 'shared');
  }
  const sockets = () => proxy.requests.filter((line) => line.startsWith('UPGRADE')).length;
  assert.equal(sockets(), 1);
  await publish('shared', 'one');
  for (const page of tabs) await has(page, ['one']);
  assert.deepEqual(await Promise.all(tabs.map((page) => page.evaluate(() => globalThis.client.wire))), ['ws', 'ws', 'ws']);
  await tabs[0].close();
  await publish('shared', 'two');
  for (const page of tabs.slice(1)) await has(page, ['one', 'two']);
  assert.equal(sockets(), 2);
  await publish('shared', 'three');
  for (const page of tabs.slice(1)) await has(page, ['one', 'two', 'three']);
  await context.close();
});

test('a tab that only follows is refused in words, and leaves without a trace', async () => {
  const context = await browser.chromium.newContext();
  const [leader, follower] = [await tab(context, { share: true }), await tab(context, { share: true })];
  await subscribe(leader, 'mine');
  await assert.rejects(subscribe(follower, '$private'), /\$private/);
  await subscribe(follower, 'yours');
  const readers = async (topic) => (await (await fetch(`${server.url}/v1/topics?filter=${topic}`)).json()).topics[0]?.subscribers;
  await publish('yours', 'x');
  await has(follower, ['x']);
  assert.equal(await readers('yours'), 1);
  await follower.close();
  while (await readers('yours') !== 0) await new Promise(setImmediate);
  await publish('mine', 'y');
  await has(leader, ['y']);
  await context.close();
});

test('a tab that follows before it has the lock of its name is not taken for one that has ended', async () => {
  const context = await browser.chromium.newContext();
  const leader = await tab(context, { share: true });
  await subscribe(leader, 'early');
  await context.addInitScript(() => {
    const request = navigator.locks.request.bind(navigator.locks);
    const opened = new Promise((resolve) => { globalThis.open = resolve; });
    navigator.locks.request = (name, ...rest) => (name.includes('tab/') ? opened.then(() => request(name, ...rest)) : request(name, ...rest));
  });
  const follower = await tab(context, { share: true });
  const ready = subscribe(follower, 'late');
  // Whatever the follower has said by now, the leader has heard.
  await follower.evaluate(() => {});
  await publish('early', 'x');
  await has(leader, ['x']);
  await follower.evaluate(() => globalThis.open());
  await ready;
  await publish('late', 'y');
  await has(follower, ['y']);
  await context.close();
});

test('what waits in the outbox of a closed tab is sent by the next one, once', async () => {
  const context = await browser.chromium.newContext();
  const first = await tab(context);
  const second = await tab(context);
  proxy.cut(true);
  for (const [page, bodies] of [[first, ['a', 'b']], [second, ['c']]]) {
    await page.evaluate((bodies) => { for (const body of bodies) globalThis.client.publish('outbox', body).catch(() => {}); }, bodies);
    await page.waitForFunction((text) => JSON.stringify(localStorage).includes(text), `\\"text\\":\\"${bodies.at(-1)}`);
  }
  await first.close();
  await second.close();
  proxy.isDown = false;
  const third = await tab(context);
  await third.evaluate(() => globalThis.client.publish('outbox', 'd'));
  const bodies = async () => (await (await fetch(`${server.url}/v1/messages?topic=outbox`)).json()).messages.map(({ body }) => body);
  while ((await bodies()).length < 4) await new Promise(setImmediate);
  const all = await bodies();
  assert.deepEqual(all.toSorted(), ['a', 'b', 'c', 'd']);
  assert.ok(all.indexOf('a') < all.indexOf('b'));
  await context.close();
});

test('a part of the client that the network doesn’t bring is asked for again, and what was published meanwhile goes out', async () => {
  const context = await browser.chromium.newContext();
  const page = await context.newPage();
  let asked = 0;
  await page.route('**/outbox.js', (route) => ((asked += 1) > 2 ? route.continue() : route.abort()));
  await page.goto(`${proxy.url}/web/docs/http.md`);
  const published = await page.evaluate(async () => {
    const { Everywire } = await import('/web/sdk/everywire.js');
    const client = new Everywire(undefined, { retryMs: [20, 200] });
    return Promise.all(['1', '2'].map((body) => client.publish('late', body)));
  });
  assert.ok(asked > 2 && published[0].cursor < published[1].cursor, JSON.stringify([asked, published]));
  await context.close();
});

test('a named subscription goes on after a reload', async () => {
  const context = await browser.chromium.newContext();
  const first = await tab(context);
  await subscribe(first, 'named', { name: 'n' });
  await publish('named', '1');
  await has(first, ['1']);
  await first.close();
  await publish('named', '2');
  const second = await tab(context);
  await subscribe(second, 'named', { name: 'n' });
  await has(second, ['2']);
  await context.close();
});

test('the browser’s own offline and online are believed', async () => {
  const context = await browser.chromium.newContext();
  const page = await tab(context);
  await subscribe(page, 'offline');
  await context.setOffline(true);
  await page.waitForFunction(() => globalThis.client.state === 'waiting');
  await publish('offline', 'meanwhile');
  await context.setOffline(false);
  await has(page, ['meanwhile']);
  await context.close();
});
