/** Home, console and lab in a real Chromium, straight from the binary and behind a proxy under a path. */

import assert from 'node:assert/strict';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import http from 'node:http';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { after, before, describe } from 'node:test';

import { Proxy } from './proxy.mjs';
import { Browser, Server, test } from './support.mjs';

const ROOT = new URL('../../', import.meta.url).pathname;
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PICTURES = process.env.EVERYWIRE_PICTURES ?? join(tmpdir(), 'everywire-pictures');
const WIRES = ['poll', 'longpoll', 'sse', 'ws', 'mqtt'];
const PAGES = { home: '', chat: 'chat', console: 'console', lab: 'lab' };

let server;
let browser;
let admin;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.launch()]);
  admin = (await readFile(join(server.home, 'data', 'admin.token'), 'utf8')).trim();
});
after(async () => {
  await browser.close();
  await server.stop();
});

const lamp = (page, wire) => page.locator(`.lamp[data-wire=${wire}]`);
const lit = (page, wire) => page.locator(`.lamp[data-wire=${wire}][data-state=lit]`).waitFor();
const said = (page, text) => page.locator('.said li').filter({ hasText: text }).waitFor();

const textsOf = async (language, page) => (await import(`../../web/i18n/${language}/${page}.js`)).default;

async function say(page, text) {
  await page.getByRole('textbox', { name: 'Say something' }).fill(text);
  await page.getByRole('textbox', { name: 'Say something' }).press('Enter');
}

/** Asks for the address of a change again and again until the page shows it: the page may not watch yet. */
async function change(page, address, shown) {
  while (!(await page.locator('#content').innerText()).includes(shown)) {
    assert.ok(await page.evaluate(async (url) => (await fetch(url)).ok, address));
  }
}

/** The findings of axe. */
async function findings(page) {
  // The policy lets no page run text; the driver's own world may.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

describe('texts and files', () => {
  test('both languages have the same texts with the same places to fill in', async () => {
    const places = (text) => [...text.matchAll(/\{\w+\}/g)].map(([place]) => place).sort();
    for (const page of ['common', ...Object.keys(PAGES)]) {
      const [en, zh] = [await textsOf('en', page), await textsOf('zh', page)];
      assert.deepEqual(Object.keys(zh), Object.keys(en));
      for (const key of Object.keys(en)) assert.deepEqual(places(zh[key]), places(en[key]), key);
    }
  });

  /** The modules that a module loads, itself first. */
  async function graph(entry, seen = []) {
    if (seen.includes(entry)) return seen;
    seen.push(entry);
    const text = await readFile(join(ROOT, entry.replace('web/sdk/', 'sdk/js/src/')), 'utf8');
    for (const [, from] of text.matchAll(/^(?:import|export)\s[^;]*?from '([^']+)';/gm)) await graph(normalize(join(dirname(entry), from)), seen);
    return seen;
  }

  /** The number of bytes that the server sends for a file. */
  const sent = (path) => new Promise((resolve, reject) => {
    http.get(`${server.url}/${path}`, { headers: { 'Accept-Encoding': 'gzip' } }, async (response) => {
      let size = 0;
      for await (const part of response) size += part.length;
      resolve(size);
    }).on('error', reject);
  });

  for (const [name, most] of [['home', 45], ['chat', 50], ['lab', 60], ['console', 45]]) {
    test(`${name} preloads what it needs, at most ${most} kB`, async () => {
      const html = await (await fetch(`${server.url}/${PAGES[name]}`)).text();
      const [entry, ...modules] = await graph(`web/${name}.js`);
      const preloaded = [...html.matchAll(/modulepreload" href="([^"]+)"/g)].map(([, href]) => href);
      assert.deepEqual(preloaded, modules.sort());
      const styles = [...html.matchAll(/stylesheet" href="([^"]+)"/g)].map(([, href]) => href);
      let size = 0;
      for (const file of [PAGES[name], entry, ...modules, ...styles]) size += await sent(file);
      assert.ok(size < most * 1000, `${size} bytes`);
    });
  }

  test('one connection asks for file after file, and each is answered', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 200; i += 1) {
      const status = await new Promise((resolve, reject) => {
        http.get(`${server.url}/openapi.json`, { agent }, (response) => response.resume().on('end', () => resolve(response.statusCode))).on('error', reject);
      });
      assert.equal(status, 200);
    }
    agent.destroy();
  });

  test('a page asks for nothing from elsewhere, compressed, under its policy', async () => {
    for (const path of Object.values(PAGES)) {
      const asked = [];
      const page = await browser.window();
      page.on('request', (request) => asked.push(request.url()));
      const response = await page.goto(`${server.url}/${path}`);
      await page.locator('h1').waitFor();
      assert.ok(asked.every((url) => url.startsWith(server.url)), asked.join(' '));
      assert.equal((await response.allHeaders())['content-encoding'], 'gzip');
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  });
});

describe('home', () => {
  test('it is alive by itself: the clock lights every lamp', async () => {
    const page = await browser.window(`${server.url}/`);
    for (const wire of WIRES) await lit(page, wire);
    assert.match(await page.locator('.now').textContent(), /clock/);
    assert.match(await lamp(page, 'ws').textContent(), /\d+ ms/);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('what is said comes over every wire, and to other windows, markup as text', async () => {
    const [page, other] = [await browser.window(`${server.url}/`), await browser.window(`${server.url}/`)];
    for (const wire of WIRES) await lit(other, wire);
    const text = '<img src=x onerror="document.title=1"> <script>document.title=2</script>';
    await say(page, text);
    await page.locator('.now').filter({ hasText: '5 of 5' }).waitFor();
    for (const window of [page, other]) await said(window, text);
    assert.equal(await page.locator('.said img, .said script').count(), 0);
    assert.equal(await page.title(), 'Everywire');
    assert.deepEqual([page.faults, other.faults], [[], []]);
    await page.context().close();
    await other.context().close();
  });

  const ticked = (page) => page.waitForResponse((response) => /topic=demo(%2F|\/)clock/.test(response.url()) && response.request().method() === 'POST');

  test('the clock ticks on, but what was said stays in sight until the slowest wire has brought it', async () => {
    const page = await browser.window();
    let [hold, held] = [Promise.resolve(), () => {}];
    await page.route(({ pathname, searchParams }) => pathname === '/v1/messages' && searchParams.has('topic') && !searchParams.has('wait'), async (route) => {
      if (route.request().method() === 'GET') {
        held();
        await hold;
      }
      await route.continue().catch(() => {});
    });
    await page.goto(`${server.url}/?topic=slowly`);
    for (const wire of WIRES) await lit(page, wire);
    let release;
    hold = new Promise((resolve) => { release = resolve; });
    // A poll that was under way could still bring it.
    await new Promise((resolve) => { held = resolve; });
    await say(page, 'one slow wire');
    await page.locator('.now').filter({ hasText: /one slow wire.*4 of 5/ }).waitFor();
    await ticked(page);
    release();
    await page.locator('.now').filter({ hasText: /one slow wire.*5 of 5/ }).waitFor();
    await page.context().close();
  });

  test('what a terminal publishes shows too, with the event and the bytes that it has', async () => {
    const page = await browser.window(`${server.url}/?topic=a%2Fb`);
    for (const wire of WIRES) await lit(page, wire);
    await fetch(`${server.url}/v1/messages?topic=a/b&event=%3Cb%3E`, { method: 'POST', body: Uint8Array.of(255, 1) });
    await said(page, '2 B');
    await fetch(`${server.url}/v1/messages?topic=a/b`, { method: 'POST', body: 'from afar' });
    await said(page, 'from afar');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('a refusal is told in the server’s words, and keeps what was typed', async () => {
    const page = await browser.window(`${server.url}/?topic=%24private`);
    await page.locator('.lamp[data-wire=ws][data-state=refused]').waitFor();
    assert.match(await lamp(page, 'ws').textContent(), /\$private/);
    await say(page, 'keep me');
    await page.locator('.status.bad').filter({ hasText: /Not sent: .*\$private/ }).waitFor();
    await ticked(page);
    assert.match(await page.locator('.status.bad').first().textContent(), /Not sent: .*\$private/);
    assert.equal(await page.getByRole('textbox', { name: 'Say something' }).inputValue(), 'keep me');
    await page.context().close();
  });

  test('MQTT says on its lamp why it is refused, for a topic or for a token, and asks no more', async (t) => {
    const guarded = await Server.start({ EVERYWIRE_AUTH_SECRET: 's'.repeat(32) });
    t.after(() => guarded.stop());
    for (const [address, reason] of [[`${server.url}/?topic=%24private`, /refused: .*\$private/], [`${guarded.url}/#token=nonsense`, /refused: .*(token|password)/]]) {
      const page = await browser.window();
      let sockets = 0;
      page.on('websocket', (socket) => { sockets += socket.url().endsWith('/mqtt') ? 1 : 0; });
      await page.goto(address);
      await page.locator('.lamp[data-wire=mqtt][data-state=refused]').waitFor();
      assert.match(await lamp(page, 'mqtt').textContent(), reason);
      await page.locator('.lamp[data-wire=ws][data-state=refused]').waitFor();
      assert.equal(sockets, 1);
      await page.context().close();
    }
  });

  test('a message too long is refused in words', async () => {
    const page = await browser.window(`${server.url}/`);
    const long = 'x'.repeat(300_000);
    await page.locator('#say').evaluate((field, text) => { field.value = text; }, long);
    await page.locator('#say').press('Enter');
    await page.locator('.status.bad').filter({ hasText: /Not sent: .*too large/ }).waitFor();
    assert.equal((await page.locator('#say').inputValue()).length, long.length);
    await page.context().close();
  });

  test('a browser that calls itself offline is not believed while the server answers', async () => {
    const page = await browser.window();
    await page.addInitScript(() => Object.defineProperty(navigator, 'onLine', { get: () => false }));
    let go;
    const asked = new Promise((resolve) => {
      page.route('**/v1/messages?topic=hello*', async (route) => {
        if (route.request().method() === 'POST') await new Promise((answer) => { go = answer; resolve(); });
        await route.continue();
      });
    });
    await page.goto(server.url);
    await say(page, 'from a laptop on a train');
    await asked;
    assert.equal(await page.locator('.say .status.bad').count(), 0);
    go();
    await page.locator('.status').filter({ hasText: 'was kept' }).waitFor();
    await page.context().close();
  });

  test('what can’t be sent is said to wait, until it is sent', async () => {
    const page = await browser.window(server.url);
    const post = (route) => (route.request().method() === 'POST' ? route.abort('connectionreset') : route.continue());
    await page.route('**/v1/messages?topic=hello*', post);
    await say(page, 'patience');
    await page.locator('.status.bad').filter({ hasText: 'No connection: 1 wait' }).waitFor();
    await page.unroute('**/v1/messages?topic=hello*', post);
    await page.locator('.status').filter({ hasText: 'was kept' }).waitFor();
    assert.equal(await page.locator('.say .status.bad').count(), 0);
    await said(page, 'patience');
    await page.context().close();
  });

  test('it comes back by itself after the server was killed, and loses nothing', async () => {
    const page = await browser.window(`${server.url}/?topic=killed`);
    for (const wire of WIRES) await lit(page, wire);
    await server.restart();
    await say(page, 'after');
    await page.locator('.now').filter({ hasText: /after.*5 of 5/ }).waitFor();
    await page.context().close();
  });

  test('without storage it works, in both languages, and remembers nothing', async () => {
    const page = await browser.window();
    await page.addInitScript(() => {
      for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(globalThis, name, { get() { throw new DOMException('no', 'SecurityError'); } });
    });
    await page.goto(`${server.url}/#token=${admin}`);
    for (const wire of WIRES) await lit(page, wire);
    await say(page, 'no storage');
    await said(page, 'no storage');
    await page.getByRole('button', { name: /Chinese/ }).click();
    await page.getByRole('heading', { name: (await textsOf('zh', 'common'))['app.tagline'] }).waitFor();
    assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('a token in the address leaves it at once, and is in no other address', async () => {
    const page = await browser.window();
    const asked = [];
    page.on('request', (request) => asked.push(request.url()));
    page.on('websocket', (socket) => asked.push(socket.url()));
    await page.goto(`${server.url}/#token=${admin}`);
    assert.equal(page.url(), `${server.url}/`);
    for (const wire of WIRES) await lit(page, wire);
    assert.ok(asked.length > 10 && asked.every((url) => !url.includes(admin)));
    await page.getByRole('link', { name: 'Console', exact: true }).click();
    await page.locator('tbody tr').first().waitFor();
    await page.context().close();
  });

  async function enter(page, name) {
    await page.getByLabel('Your name').fill(name);
    await page.getByRole('button', { name: 'Come in as a guest' }).click();
  }

  test('who gives a name comes in as a guest, and what they say is theirs on every wire', async () => {
    const page = await browser.window(`${server.url}/?topic=guests`);
    await enter(page, 'Ann');
    await page.getByText('A token is set').waitFor();
    for (const wire of WIRES) await lit(page, wire);
    await say(page, 'it is me');
    await said(page, 'it is me');
    assert.match(await page.locator('.said li').filter({ hasText: 'it is me' }).locator('b').textContent(), /^guest-\w+$/);
    await page.getByRole('button', { name: 'Forget it' }).click();
    await page.getByLabel('Your name').waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('a guest that the server doesn’t take is told why, and keeps the name that was typed', async (t) => {
    const closed = await Server.start({ EVERYWIRE_AUTH_GUESTS: 'false' });
    t.after(() => closed.stop());
    for (const [url, name, reason] of [[server.url, '名'.repeat(30), /64 bytes/], [closed.url, 'Ann', /no guests are taken here/]]) {
      const page = await browser.window(`${url}/`);
      await enter(page, name);
      await page.locator('[role=status]').filter({ hasText: reason }).waitFor();
      assert.equal(await page.getByLabel('Your name').inputValue(), name);
      await page.context().close();
    }
  });

  test('the documentation of this version is there', async () => {
    const page = await browser.window(`${server.url}/`);
    for (const href of await page.locator('.door li a').evaluateAll((links) => links.map(({ href }) => href))) {
      const response = await fetch(href);
      assert.deepEqual([response.status, (await response.text()).length > 500], [200, true], href);
    }
    await page.context().close();
  });
});

describe('console', () => {
  test('without an operator’s token it says what is needed, with a wrong one what the server says', async () => {
    const page = await browser.window(`${server.url}/console`);
    await page.getByText('admin.token').waitFor();
    await page.getByLabel('Token').fill('nonsense');
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.locator('.status.bad').filter({ hasText: /token/ }).waitFor();
    await page.context().close();
  });

  test('rows stay, a filter asks the server, a kick is confirmed and tells its reason', async () => {
    const events = await fetch(`${server.url}/v1/events?topic=console/1`, { headers: { 'User-Agent': '<b>hostile</b>' } });
    const page = await browser.window(`${server.url}/console#token=${admin}`);
    await page.getByLabel('on the topic').fill('console/1');
    await page.getByLabel('on the topic').press('Enter');
    const row = page.locator('tbody tr').filter({ hasText: 'SSE' });
    await row.waitFor();
    assert.equal(await page.locator('tbody tr').count(), 1);
    assert.equal(await page.locator('tbody b').count(), 0, 'a user agent is text');
    const element = await row.elementHandle();
    await row.getByRole('button').click();
    await page.getByRole('button', { name: 'Keep it' }).click();
    assert.equal(await element.evaluate((it) => it.isConnected), true);
    await row.getByRole('button').click();
    await page.getByLabel('Reason').fill('tidying up');
    await page.getByRole('button', { name: 'End it' }).click();
    assert.match(await events.text(), /tidying up|kicked/);
    await page.getByText('Ended: anonymous.').waitFor();
    await page.locator('tbody tr').waitFor({ state: 'detached' });
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('an answer to an older filter comes too late', async () => {
    const others = ['late/1', 'late/2'].map((topic) => fetch(`${server.url}/v1/events?topic=${topic}`));
    const events = await Promise.all(others);
    const page = await browser.window();
    const held = [];
    await page.route('**/v1/connections?limit=100', (route) => held.push(route));
    await page.goto(`${server.url}/console#token=${admin}`);
    await page.getByLabel('on the topic').fill('late/1');
    await page.getByLabel('on the topic').press('Enter');
    const rows = page.locator('tbody tr');
    await rows.first().waitFor();
    const answered = page.waitForResponse('**/v1/connections?limit=100');
    held[0].continue();
    await (await answered).finished();
    await page.waitForResponse('**/v1/connections?limit=100&topic=*');
    assert.equal(await rows.count(), 1);
    await page.context().close();
    await Promise.all(events.map((one) => one.body.cancel()));
  });

  test('a message is explained by its id, and what is none is told', async () => {
    const { id } = await (await fetch(`${server.url}/v1/messages?topic=console/2`, { method: 'POST', body: 'x' })).json();
    const page = await browser.window(`${server.url}/console#token=${admin}`);
    await page.getByLabel('Message id').fill(id);
    await page.getByRole('button', { name: 'Explain' }).click();
    await page.getByText('Published to “console/2”').waitFor();
    await page.getByLabel('Message id').fill('nonsense');
    await page.getByRole('button', { name: 'Explain' }).click();
    await page.locator('.status.bad').filter({ hasText: /\S/ }).waitFor();
    assert.equal(await page.getByLabel('Message id').inputValue(), 'nonsense');
    await page.context().close();
  });
});

describe('lab', () => {
  const row = (page, wire) => page.locator('table').first().locator('tr').filter({ has: page.locator(`[data-wire=${wire}]`) });
  const cell = (page, wire, name) => row(page, wire).locator(`td[data-label="${name}"]`).textContent();

  test('every lane brings what is published, and a cut loses nothing', async () => {
    const page = await browser.window(`${server.url}/lab`);
    await page.getByRole('button', { name: 'A cut loses nothing' }).click();
    await page.getByRole('button', { name: 'Cut 2 s' }).isEnabled();
    await page.waitForFunction((wires) => wires.every((wire) => {
      const line = document.querySelector(`table tr:has([data-wire=${wire}])`);
      return Number(line?.querySelector('[data-label=Messages]')?.textContent) >= 25;
    }), WIRES);
    for (const wire of WIRES) assert.equal(await cell(page, wire, 'Lost'), '0', wire);
    assert.match(await page.locator('.look').textContent(), /hatched/);
    await page.context().close();
  });

  /** Sends a request as it stands, and resolves with the bytes of the answer, which ends the connection. */
  const raw = (request) => new Promise((resolve, reject) => {
    const { hostname, port } = new URL(server.url);
    const parts = [];
    const socket = connect({ host: hostname, port }, () => socket.write(request));
    socket.on('data', (part) => parts.push(part)).on('end', () => resolve(Buffer.concat(parts))).on('error', reject);
  });
  const counted = async (label) => (await fetch(`${server.url}/v1/lab?label=${label}`)).json();

  test('the server counts each byte of a labelled request and its answer, heads too, and what was asked in vain', async () => {
    const label = '0123456789abcdef'.repeat(2);
    const request = (after) => `GET /v1/messages?topic=lab/raw&after=${after}&label=${label} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`;
    const sum = { requests: 0, empty: 0, messages: 0, bytes_in: 0, bytes_out: 0 };
    for (const [after, empty] of [['latest', 1], ['earliest', 0]]) {
      const answer = await raw(request(after));
      assert.match(answer.toString(), empty ? /^HTTP\/1.1 204/ : /^HTTP\/1.1 200/);
      sum.requests += 1;
      sum.empty += empty;
      sum.messages += 1 - empty;
      sum.bytes_in += request(after).length;
      sum.bytes_out += answer.length;
      const { writes, ...counts } = await counted(label);
      assert.deepEqual(counts, sum);
      assert.ok(writes >= sum.requests);
      await fetch(`${server.url}/v1/messages?topic=lab/raw`, { method: 'POST', body: 'news' });
    }
    assert.equal((await counted('f'.repeat(32))).requests, 0);
  });

  test('a lane shows what the server counted of it', async () => {
    const page = await browser.window();
    const answers = [];
    await page.route('**/v1/lab?*', async (route) => {
      const response = await route.fetch();
      answers.push([new URL(route.request().url()).searchParams.get('label'), await response.json()]);
      await route.fulfill({ response });
    });
    const labels = new Set();
    page.on('request', (request) => {
      const { pathname, searchParams } = new URL(request.url());
      if (pathname === '/v1/messages' && request.method() === 'GET' && !searchParams.has('wait')) labels.add(searchParams.get('label'));
    });
    await page.goto(`${server.url}/lab`);
    await page.getByText('Counted by the server').waitFor();
    await page.waitForFunction(() => Number(document.querySelector('table [data-label=Empty]')?.textContent) > 1);
    const names = ['Requests', 'Empty', 'Messages', 'Writes'];
    const shown = await row(page, 'poll').evaluate((line, names) => names.map((name) => Number(line.querySelector(`[data-label=${name}]`).textContent)), names);
    const mine = answers.filter(([label]) => labels.has(label)).map(([, { requests, empty, messages, writes }]) => [requests, empty, messages, writes]);
    assert.ok(mine.some((counts) => JSON.stringify(counts) === JSON.stringify(shown)), JSON.stringify([shown, mine]));
    assert.match(await cell(page, 'poll', 'Bytes in'), /^[1-9].* k?B$/);
    await page.context().close();
  });

  test('a server that was started anew counts anew, and no figure is negative', async () => {
    const page = await browser.window();
    let asked = 0;
    await page.route('**/v1/lab?*', (route) => {
      const many = (asked += 1) > 15 ? asked : 1000 * asked;
      return route.fulfill({ json: { requests: many, empty: many, messages: many, bytes_in: many, bytes_out: many, writes: many } });
    });
    await page.goto(`${server.url}/lab`);
    const text = () => page.locator('.lane[data-wire=poll] p').textContent();
    await page.waitForFunction(() => /\d,\d{3} requests/.test(document.querySelector('.lane[data-wire=poll] p')?.textContent ?? ''));
    await page.waitForFunction(() => /[1-9]\d* requests/.test(document.querySelector('.lane[data-wire=poll] p')?.textContent ?? '')
      && Number(document.querySelector('table [data-label=Requests]')?.textContent) < 1000);
    assert.doesNotMatch(await text(), /[-−]\d/);
    await page.context().close();
  });

  test('each wire is measured alone, one after the other, and all go on after it', async () => {
    const page = await browser.window();
    // The page measures for two seconds instead of five.
    await page.addInitScript(() => {
      const timer = globalThis.setTimeout;
      globalThis.setTimeout = (act, ms, ...rest) => timer(act, ms === 5000 ? 2000 : ms, ...rest);
    });
    await page.goto(`${server.url}/lab`);
    await page.locator('#rate').evaluate((slider) => { slider.value = slider.max - 1; slider.dispatchEvent(new Event('input', { bubbles: true })); });
    await page.evaluate(() => {
      globalThis.said = [];
      new MutationObserver(() => globalThis.said.push(document.querySelector('#busy').textContent)).observe(document.querySelector('#busy'), { subtree: true, childList: true, characterData: true });
    });
    await page.getByRole('button', { name: 'Measure' }).click();
    await page.getByRole('button', { name: 'Measure', disabled: true }).waitFor();
    await page.getByRole('button', { name: 'Measure', disabled: false }).waitFor();
    const said = await page.evaluate(() => [...new Set(globalThis.said)]);
    assert.deepEqual(said.slice(0, -1), ['…', 'Short poll', 'Long poll', 'SSE', 'WebSocket', 'MQTT'].map((wire) => `Measures ${wire} …`));
    await page.waitForFunction((wires) => wires.every((wire) => /\d µs/.test(document.querySelector(`table tr:has([data-wire=${wire}])`).textContent)), WIRES);
    for (const wire of WIRES) assert.match(await page.locator('table').nth(1).locator('tr').filter({ has: page.locator(`[data-wire=${wire}]`) }).locator('[data-label=Cores]').textContent(), /\d/, wire);
    const before = Number(await cell(page, 'mqtt', 'Messages'));
    await page.waitForFunction((before) => Number(document.querySelector('table tr:has([data-wire=mqtt]) [data-label=Messages]').textContent.replace(/\D/g, '')) > before, before);
    await page.context().close();
  });

  test('a measurement that the server refuses is told, and all go on', async () => {
    const page = await browser.window();
    await page.route('**/metrics', (route) => route.fulfill({ status: 403, contentType: 'application/problem+json', json: { detail: 'not for everybody' } }));
    await page.goto(`${server.url}/lab`);
    await page.getByRole('button', { name: 'Measure' }).click();
    await page.getByText('not for everybody').waitFor();
    await page.waitForFunction(() => document.querySelectorAll('.lane p:not(.bad)').length === 5);
    await page.context().close();
  });

  test('what a lane paints bit by bit is what it would paint at once', async () => {
    const page = await browser.window(`${server.url}/lab`);
    const different = await page.evaluate(async () => {
      const { Strip } = await import('/web/lab/strip.js');
      const canvasOf = () => {
        const canvas = document.createElement('canvas');
        document.querySelector('.lane p').append(canvas);
        return canvas;
      };
      const lane = { bars: [], ticks: [], cuts: [], changedFrom: Infinity };
      const [one, other] = [canvasOf(), canvasOf()];
      const bit = new Strip(one, lane);
      bit.fit();
      const pixels = (it) => it.getContext('2d').getImageData(0, 0, it.width, it.height).data;
      const different = [];
      for (let step = 0, now = 1000; step < 900; step += 1, now += 37) {
        const open = lane.bars.at(-1);
        if (step % 7 === 0) lane.bars.push({ from: now });
        if (open && !open.to && step % 5 === 3) {
          open.to = now;
          open.isEmpty = step % 2 === 0;
          if (open.isEmpty) lane.changedFrom = Math.min(lane.changedFrom, open.from);
        }
        if (step % 3 === 0) lane.ticks.push(now, now + 1);
        if (step % 200 === 50) lane.cuts.push({ from: now });
        if (step % 200 === 90) lane.cuts.at(-1).to = now;
        bit.paint(now);
        if (step % 100 !== 99 || lane.changedFrom < Infinity) continue;
        const whole = new Strip(other, lane);
        whole.fit();
        whole.paint(now);
        const [a, b] = [pixels(one), pixels(other)];
        different.push(a.reduce((count, value, i) => count + (Math.abs(value - b[i]) > 40 ? 1 : 0), 0));
        if (!a.some((value) => value > 0)) different.push('nothing was painted');
      }
      return different;
    });
    assert.deepEqual(different, different.map(() => 0));
    await page.context().close();
  });

  test('a short poll’s waste is said in a sentence', async () => {
    const page = await browser.window(`${server.url}/lab`);
    await page.getByRole('button', { name: 'Short polling asks in vain' }).click();
    await page.waitForFunction(() => /[1-9]\d* of them empty/.test(document.querySelector('.lane[data-wire=poll] p')?.textContent ?? ''));
    await page.context().close();
  });

  test('the walk-through waits, and shows what the second terminal changes', async () => {
    const page = await browser.window(`${server.url}/lab`);
    await page.getByRole('button', { name: '10086' }).click();
    await page.locator('.sheet pre code').first().waitFor();
    const lines = await page.locator('.sheet pre code').allTextContents();
    assert.match(lines[0], /^curl -si '.*\/polling\/watch\/10086'$/);
    const [, address] = /'(.*)'/.exec(lines[1]);
    await page.getByText('10086: …').waitFor();
    await change(page, address, '10086: changed');
    await page.context().close();
  });

  test('a network that cuts the first of each request keeps nothing of the lab away', async () => {
    const page = await browser.window();
    const failed = new Set();
    await page.route(/openapi\.json|polling\/watch|uplot\.js/, (route) => {
      const { pathname } = new URL(route.request().url());
      if (failed.has(pathname)) return route.fallback();
      failed.add(pathname);
      return route.abort('connectionreset');
    });
    await page.goto(`${server.url}/lab`);
    await page.getByText(/Everywire \d+\.\d+/).waitFor();
    await page.locator('.plot').first().scrollIntoViewIfNeeded();
    await page.locator('.plot canvas').first().waitFor();
    await page.getByRole('button', { name: '10086' }).click();
    await change(page, `${server.url}/polling/publish/10086?message=again`, '10086: again');
    assert.equal(failed.size, 3, [...failed].join(', '));
    await page.context().close();
  });

  test('100 messages a second on five lanes: none is lost', async (t) => {
    const page = await browser.window(`${server.url}/lab`);
    await page.locator('#rate').evaluate((slider) => { slider.value = slider.max; slider.dispatchEvent(new Event('input', { bubbles: true })); });
    await page.waitForFunction(() => Number(document.querySelector('table [data-label=Messages]')?.textContent.replace(/\D/g, '')) > 300);
    const frames = await page.evaluate(() => new Promise((resolve) => {
      const begun = performance.now();
      let count = 0;
      const turn = (now) => { count += 1; now - begun > 2000 ? resolve(count / 2) : requestAnimationFrame(turn); };
      requestAnimationFrame(turn);
    }));
    t.diagnostic(`${frames} frames a second`);
    for (const wire of WIRES) assert.equal(await cell(page, wire, 'Lost'), '0', wire);
    await page.context().close();
  });
});

describe('every page', () => {
  test('it works under a path behind a proxy', async (t) => {
    const proxy = await Proxy.start(server.url, { prefix: '/deep/path' });
    t.after(() => proxy.stop());
    const page = await browser.window(`${proxy.url}/`);
    for (const wire of WIRES) await lit(page, wire);
    await page.getByRole('link', { name: 'Lab', exact: true }).click();
    await page.locator('.lane').first().waitFor();
    await page.getByRole('link', { name: 'Chat', exact: true }).click();
    await page.locator('#guest').waitFor();
    await page.getByRole('link', { name: 'Console', exact: true }).click();
    await page.getByText('admin.token').waitFor();
    assert.equal(page.url(), `${proxy.url}/console`);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  // The chat's panes are looked at beside what is said in them.
  for (const [name, path] of Object.entries(PAGES).filter(([name]) => name !== 'chat')) {
    for (const [width, locale, colorScheme] of [[320, 'zh-CN', 'dark'], [640, 'en', 'dark'], [1280, 'en', 'light']]) {
      test(`${name} at ${width} pixels, ${locale}, ${colorScheme}: nothing overflows, axe finds nothing`, async () => {
        await mkdir(PICTURES, { recursive: true });
        const page = await browser.window(`${server.url}/${path}#token=${admin}`, { viewport: { width, height: 800 }, locale, colorScheme, reducedMotion: 'reduce' });
        await page.locator(name === 'home' ? '.lamp[data-state=lit]' : name === 'lab' ? '.lane' : 'tbody tr, .hint').first().waitFor();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        await page.screenshot({ path: join(PICTURES, `${name}-${width}-${locale}-${colorScheme}.png`), fullPage: true });
        assert.equal(wide, 0, `${wide} pixels too wide`);
        assert.deepEqual(await findings(page), []);
        assert.deepEqual(page.faults, []);
        await page.context().close();
      });
    }
  }

  test('the keyboard alone is enough', async () => {
    const page = await browser.window(`${server.url}/`);
    await lit(page, 'ws');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    await page.keyboard.type('by keyboard');
    await page.keyboard.press('Enter');
    await said(page, 'by keyboard');
    await page.context().close();
  });
});

test('the vendored files are what the packages make', async () => {
  const { execFileSync } = await import('node:child_process');
  execFileSync(join(ROOT, 'dev/vendor'), ['--check'], { stdio: 'inherit' });
  assert.ok((await readdir(join(ROOT, 'web/vendor'))).includes('LICENSES.txt'));
});
