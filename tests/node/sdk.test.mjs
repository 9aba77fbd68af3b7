/** The client in Node against the real server, through proxies with faults: all of it, in order, nothing twice. */

import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';

import { Problem } from '../../sdk/js/src/everywire.js';
import { WIRES, client, event, inbox, test, topicOf, upTo } from './kit.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());

async function proxy(t, faults) {
  const it = await Proxy.start(server.url, faults);
  t.after(() => it.stop());
  return it;
}

/** A stand-in for the events of a browser's window. */
function browserEvents(t) {
  const page = new EventTarget();
  const names = ['addEventListener', 'removeEventListener'];
  for (const name of names) globalThis[name] = page[name].bind(page);
  t.after(() => { for (const name of names) delete globalThis[name]; });
  return page;
}

/** Publishes numbers past all proxies. */
async function publish(topic, numbers) {
  for (let at = 0; at < numbers.length; at += 200) {
    const messages = numbers.slice(at, at + (numbers.length > 200 ? 200 : 1)).map((body) => ({ topic, body }));
    const answer = await fetch(`${server.url}/v1/batch`, { method: 'POST', body: JSON.stringify({ messages }) });
    assert.equal(answer.status, 200);
    if (messages.length === 1) at -= 199;
  }
}

describe('wires', () => {
  for (const wire of WIRES) {
    test(`${wire} brings everything from its beginning`, async (t) => {
      const topic = topicOf(wire);
      await publish(topic, [0, 1]);
      const { got, take, has } = inbox();
      const it = client(t, server.url, { wires: [wire] });
      const subscription = it.subscribe(topic, take, { after: 'earliest' });
      await subscription.ready;
      await publish(topic, [2, 3]);
      await has(4);
      assert.deepEqual(got, upTo(4));
      assert.equal(it.wire, wire);
      assert.deepEqual([it.problems, it.gaps], [[], []]);
    });

    test(`${wire} misses nothing from the moment at which it is ready`, async (t) => {
      const topic = topicOf(wire);
      await publish(topic, [-1]);
      const { got, take, has } = inbox();
      const subscription = client(t, server.url, { wires: [wire] }).subscribe(topic, take);
      await subscription.ready;
      await publish(topic, upTo(3));
      await has(3);
      assert.deepEqual(got, upTo(3));
    });

    test(`${wire} loses nothing while its connection is cut again and again`, async (t) => {
      const through = await proxy(t, { cutMs: 150 });
      const topic = topicOf(wire);
      const { got, take, has } = inbox();
      const it = client(t, through.url, { wires: [wire] });
      await it.subscribe(topic, take).ready;
      await publish(topic, upTo(200));
      await has(200);
      assert.deepEqual(got, upTo(200));
      assert.deepEqual(it.gaps, []);
    });

    test(`${wire}: a second subscription joins, catches up and leaves, and the first misses nothing`, async (t) => {
      const [first, second] = [topicOf(wire), topicOf(wire)];
      await publish(second, upTo(3));
      const [one, two] = [inbox(), inbox()];
      const it = client(t, server.url, { wires: [wire] });
      await it.subscribe(first, one.take).ready;
      await publish(first, [0, 1]);
      await one.has(2);
      const later = it.subscribe(second, two.take, { after: 'earliest' });
      await later.ready;
      await two.has(3);
      await publish(second, [3]);
      await publish(first, [2]);
      await Promise.all([one.has(3), two.has(4)]);
      later.close();
      await publish(second, [4]);
      await publish(first, [3]);
      await one.has(4);
      assert.deepEqual([one.got, two.got], [upTo(4), upTo(4)]);
    });

    test(`${wire} says what the server refuses, and goes on with the rest`, async (t) => {
      const topic = topicOf(wire);
      const { got, take, has } = inbox();
      const it = client(t, server.url, { wires: [wire] });
      const refused = it.subscribe('$private', take);
      const good = it.subscribe(topic, take);
      await assert.rejects(refused.ready, (problem) => problem instanceof Problem && problem.status === 403 && /\$private/.test(problem.topic));
      await good.ready;
      await publish(topic, [0]);
      await has(1);
      assert.deepEqual(got, [0]);
      assert.match(it.problems[0].reason, /not allowed|\$/);
    });

    test(`${wire} says a gap`, async (t) => {
      const topic = topicOf(wire);
      await publish(topic, [0]);
      const { got, take, has } = inbox();
      const it = client(t, server.url, { wires: [wire] });
      it.subscribe(topic, take, { after: 'k3f9:7' });
      await has(1);
      assert.deepEqual(got, [0]);
      assert.equal(it.gaps.length, 1);
      assert.equal(it.gaps[0].topic, topic);
    });
  }
});

describe('proxies', () => {
  const faults = {
    'that block upgrades': [{ upgrades: 'block' }, 'sse'],
    'that swallow what follows a 101': [{ upgrades: 'swallow' }, 'sse'],
    'that buffer streams too': [{ upgrades: 'block', events: 'buffer' }, 'longpoll'],
    'that swallow frames and buffer streams': [{ upgrades: 'swallow', events: 'buffer' }, 'longpoll'],
    'that answer 504 to what hangs': [{ upgrades: 'swallow', patienceMs: 500 }, 'poll'],
    'that cut every 2 s': [{ cutMs: 2000 }, 'ws'],
  };
  for (const [name, [fault, wire]] of Object.entries(faults)) {
    test(`${name}: the first message comes soon, and over ${wire} in the end`, async (t) => {
      const through = await proxy(t, fault);
      const topic = topicOf('proxy');
      await publish(topic, [0]);
      const { got, take, has } = inbox();
      const begun = Date.now();
      const it = client(t, through.url);
      const settled = event(it, 'state', ({ state, wire: running }) => state === 'open' && running === wire);
      it.subscribe(topic, take, { after: 'earliest' });
      await has(1);
      t.diagnostic(`the first message after ${Date.now() - begun} ms`);
      await settled;
      await publish(topic, upTo(20).slice(1));
      await has(20);
      assert.deepEqual(got, upTo(20));
    });
  }

  test('a path prefix stays in every request', async (t) => {
    const through = await proxy(t, { prefix: '/push' });
    for (const wire of WIRES) {
      const topic = topicOf('prefix');
      const { take, has } = inbox();
      const it = client(t, through.url, { wires: [wire] });
      await it.subscribe(topic, take).ready;
      await it.publish(topic, 'in');
      await has(1);
      assert.equal((await it.history(topic, { after: 'earliest' })).messages.length, 1);
    }
  });

  test('a broken wire is left out for ten minutes, then tried again behind the running one', async (t) => {
    let now = Date.now();
    const through = await proxy(t, { upgrades: 'block' });
    const topic = topicOf('verdict');
    const { got, take, has } = inbox();
    const it = client(t, through.url, { now: () => now });
    const subscription = it.subscribe(topic, take);
    await subscription.ready;
    const upgrades = () => through.requests.filter((line) => line.startsWith('UPGRADE')).length;
    assert.equal(upgrades(), 1);
    through.upgrades = 'pass';
    through.cut();
    await event(it, 'state', ({ state }) => state === 'open');
    assert.deepEqual([it.wire, upgrades()], ['sse', 1]);
    const better = event(it, 'state', ({ wire }) => wire === 'ws');
    now += 601_000;
    await better;
    await publish(topic, upTo(3));
    await has(3);
    assert.deepEqual(got, upTo(3));
  });

  test('another network is another verdict', async (t) => {
    const through = await proxy(t, { upgrades: 'block' });
    const page = browserEvents(t);
    const it = client(t, through.url);
    await it.subscribe(topicOf('network'), () => {}).ready;
    assert.equal(it.wire, 'sse');
    through.upgrades = 'pass';
    const better = event(it, 'state', ({ wire }) => wire === 'ws');
    page.dispatchEvent(new Event('online'));
    await better;
  });

  test('use() changes the wire while messages come, and loses none', async (t) => {
    const topic = topicOf('use');
    const { got, take, has } = inbox();
    const it = client(t, server.url);
    await it.subscribe(topic, take).ready;
    const publishing = publish(topic, upTo(120));
    for (const wire of ['poll', 'sse', 'longpoll', 'ws']) {
      await it.use(wire);
      assert.equal(it.wire, wire);
    }
    await publishing;
    await has(120);
    assert.deepEqual(got, upTo(120));
    assert.ok(!it.states.some(({ state }) => state === 'waiting'), 'never without a wire');
  });

  test('use() of a wire that is broken says so and keeps what runs', async (t) => {
    const through = await proxy(t, { upgrades: 'block' });
    const topic = topicOf('use');
    const { take, has } = inbox();
    const it = client(t, through.url, { wires: ['sse', 'ws'] });
    await it.subscribe(topic, take).ready;
    await assert.rejects(it.use('ws'), Problem);
    assert.equal(it.wire, 'sse');
    await publish(topic, [0]);
    await has(1);
  });
});

describe('cursor', () => {
  test('it moves when the handler has done its work', async (t) => {
    const topic = topicOf('cursor');
    let finish;
    const it = client(t, server.url);
    let handled = 0;
    const started = new Promise((resolve) => {
      var subscription = it.subscribe(topic, (message) => {
        if (message.body === 1) resolve(subscription.cursor);
        handled += 1;
        return message.body === 1 ? new Promise((done) => { finish = done; }) : undefined;
      }, { after: 'earliest' });
    });
    await publish(topic, [0, 1, 2]);
    const { messages } = await it.history(topic, { after: 'earliest' });
    assert.equal(await started, messages[0].cursor);
    assert.equal(handled, 2);
    finish();
  });

  test('what a handler rejects comes again, before all that follows', async (t) => {
    const topic = topicOf('again');
    const { got, take, has } = inbox();
    const it = client(t, server.url);
    let failures = 2;
    it.subscribe(topic, (message) => {
      if (message.body === 1 && failures-- > 0) throw new Error('not now');
      take(message);
    }, { after: 'earliest' });
    await publish(topic, upTo(3));
    await has(3);
    assert.deepEqual(got, upTo(3));
    assert.deepEqual(it.problems.map(({ reason }) => reason), ['not now', 'not now']);
  });

  test('a named subscription goes on where the handler stopped', async (t) => {
    const topic = topicOf('named');
    const kept = new Map();
    const cursors = { get: async (key) => kept.get(key) ?? null, set: async (key, value) => { kept.set(key, value); } };
    await publish(topic, [0, 1]);
    const first = client(t, server.url, { cursors });
    for await (const { body } of first.subscribe(topic, undefined, { name: 'n', after: 'earliest' })) {
      if (body === 1) break; // not handled: the next was never asked for
    }
    await first.close();
    await publish(topic, [2]);
    const { got, take, has } = inbox();
    client(t, server.url, { cursors }).subscribe(topic, take, { name: 'n', after: 'earliest' });
    await has(2);
    assert.deepEqual(got, [1, 2]);
  });

  test('a slow handler holds the wire back, and loses nothing', async (t) => {
    for (const wire of WIRES) {
      const topic = topicOf('slow');
      await publish(topic, upTo(600));
      const { got, take, has } = inbox();
      client(t, server.url, { wires: [wire] }).subscribe(topic, async (message) => {
        await new Promise((resolve) => { setImmediate(resolve); });
        take(message);
      }, { after: 'earliest' });
      await has(600);
      assert.deepEqual(got, upTo(600));
    }
  });

  test('history is read backwards, page by page, and forwards', async (t) => {
    const topic = topicOf('history');
    await publish(topic, upTo(7));
    const it = client(t, server.url);
    const bodies = ({ messages }) => messages.map(({ body }) => body);
    const last = await it.history(topic, { limit: 3 });
    assert.deepEqual([bodies(last), last.more], [[4, 5, 6], true]);
    const middle = await it.history(topic, { limit: 3, before: last.before });
    assert.deepEqual(bodies(middle), [1, 2, 3]);
    const first = await it.history(topic, { limit: 3, before: middle.before });
    assert.deepEqual([bodies(first), first.more], [[0], false]);
    assert.deepEqual(bodies(await it.history(topic, { limit: 2, after: 'earliest' })), [0, 1]);
    assert.deepEqual(bodies(await it.history(topicOf('empty'))), []);
  });

  test('a producer that the server doesn’t know publishes under another name', async (t) => {
    const store = memoryStore();
    store.kept.set(`everywire:${server.url}/:outbox/0`, JSON.stringify({ producer: 'forgotten', next: 5, entries: [] }));
    const topic = topicOf('forgotten');
    const it = client(t, server.url, { outbox: { store } });
    await it.publish(topic, 1);
    await it.publish(topic, 2);
    assert.deepEqual(await bodies(topic), [1, 2]);
    assert.deepEqual(it.problems, []);
  });

  test('a server that can’t read backwards is told from one that can', async (t) => {
    const fetch = async () => Response.json({ messages: [{ id: 'x', body: 'the first' }], cursor: 'k:1', gap: false, more: false });
    await assert.rejects(client(t, server.url, { fetch }).history('t'), /older version/);
  });

  test('who follows a topic is told where its rule says so, else why not', async (t) => {
    await assert.rejects(client(t, server.url).presence('t'), (problem) => problem.status === 403 && /presence/.test(problem.reason));
  });

  for (const wire of WIRES) {
    test(`${wire}: bytes come as bytes, and so they are in the history`, async (t) => {
      const topic = topicOf('bytes');
      const it = client(t, server.url, { wires: [wire] });
      await it.publish(topic, Uint8Array.of(255, 0, 1));
      const [old] = (await it.history(topic)).messages;
      for await (const message of it.subscribe(topic, undefined, { after: 'earliest' })) {
        assert.deepEqual([...message.bytes], [255, 0, 1]);
        assert.deepEqual(old, message);
        break;
      }
    });
  }
});

/** A store that a test can look into. */
function memoryStore() {
  const kept = new Map();
  return { kept, get: async (key) => kept.get(key) ?? null, set: async (key, value) => { value === null ? kept.delete(key) : kept.set(key, value); } };
}

/** The bodies that the server keeps of a topic. */
async function bodies(topic) {
  const { messages } = await (await fetch(`${server.url}/v1/messages?topic=${topic}&limit=1000`)).json().catch(() => ({ messages: [] }));
  return messages.map(({ body }) => body);
}

describe('outbox', () => {
  test('kill -9 of the server: everything arrives once, in order', async (t) => {
    const topic = topicOf('killed');
    const { got, take, has } = inbox();
    const it = client(t, server.url);
    await it.subscribe(topic, take).ready;
    const answers = upTo(60).map((number) => it.publish(topic, number));
    await answers[10];
    await server.restart();
    await Promise.all(answers);
    await has(60);
    assert.deepEqual([got, await bodies(topic)], [upTo(60), upTo(60)]);
    assert.deepEqual(it.gaps, []);
  });

  test('ten minutes of tunnel, with a reload in it: everything once, in order', async (t) => {
    let ahead = 0;
    const through = await proxy(t, {});
    const store = memoryStore();
    const topic = topicOf('tunnel');
    const options = { now: () => Date.now() + ahead, outbox: { store } };
    const first = client(t, through.url, options);
    await first.publish(topic, 0);
    through.loseAnswers = true; // it arrives, and nobody learns of it
    const lost = first.publish(topic, 1);
    lost.catch(() => {});
    await through.lost();
    through.cut(true);
    for (const number of [2, 3]) first.publish(topic, number).catch(() => {});
    while (JSON.parse([...store.kept.values()][0]).entries.length < 3) await new Promise(setImmediate);
    await first.close();
    ahead = 600_000;
    through.isDown = through.loseAnswers = false;
    const second = client(t, through.url, options);
    await second.publish(topic, 4);
    assert.deepEqual(await bodies(topic), upTo(5));
    assert.deepEqual(second.problems, []);
  });

  test('a refusal whose text is cut off is asked for again, and told in the server’s words', async (t) => {
    let isFirst = true;
    const cut = async (...question) => {
      const response = await fetch(...question);
      if (response.ok || !isFirst) return response;
      isFirst = false;
      await response.body.cancel();
      return new Response(new ReadableStream({ start: (stream) => stream.error(new TypeError('cut')) }), response);
    };
    const it = client(t, server.url, { fetch: cut });
    await assert.rejects(it.publish('$private', 'x'), ({ status, reason }) => status === 403 && reason.includes('$private'));
    assert.equal(isFirst, false);
  });

  test('what the server refuses is told, and holds nothing up', async (t) => {
    const topic = topicOf('refused');
    const it = client(t, server.url);
    const answers = await Promise.allSettled([it.publish(topic, 0), it.publish('$bad', 1), it.publish(topic, 2), it.publish('a/+', 3), it.publish(topic, 4)]);
    assert.deepEqual(answers.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled']);
    assert.equal(answers[1].reason.status, 403);
    assert.deepEqual(await bodies(topic), [0, 2, 4]);
  });

  test('a message that waits too long, or one too many, is given back', async (t) => {
    let ahead = 0;
    const through = await proxy(t, {});
    through.cut(true);
    const it = client(t, through.url, { now: () => Date.now() + ahead, outbox: { max: 1, ttlMs: 1000 } });
    const waits = it.publish('t', 1);
    await event(it, 'outbox', ({ waiting }) => waiting === 1);
    await assert.rejects(it.publish('t', 2), /full: 1/);
    ahead = 2000;
    await assert.rejects(waits, /too long/);
  });

  test('a message that waits can be taken back', async (t) => {
    const through = await proxy(t, {});
    through.cut(true);
    const topic = topicOf('back');
    const it = client(t, through.url);
    const stop = new AbortController();
    const first = it.publish(topic, 0);
    const second = it.publish(topic, 1, { signal: stop.signal });
    await event(it, 'outbox', ({ waiting }) => waiting === 2);
    stop.abort();
    await assert.rejects(second, /taken back/);
    through.isDown = false;
    await first;
    assert.deepEqual(await bodies(topic), [0]);
  });

  test('a message that is answered while a slow store still takes it is answered all the same', async (t) => {
    let release = () => {};
    const slow = new Promise((resolve) => { release = () => resolve(undefined); });
    let count = 0;
    // The second message is sent behind the first, while the store still has it in hand.
    const store = { get: async () => null, set: async (key, value) => { if (value?.includes('held') && (count += 1) === 1) await slow; } };
    const topic = topicOf('slow-store');
    const it = client(t, server.url, { outbox: { store } });
    const [first, second, refused] = [it.publish(topic, 'first'), it.publish(topic, 'held'), it.publish('$bad', 'none')];
    refused.catch(() => {});
    await first;
    await event(it, 'outbox', ({ waiting }) => waiting === 0);
    release();
    assert.ok((await second).id);
    await assert.rejects(refused, ({ status }) => status === 403);
    assert.deepEqual(await bodies(topic), ['first', 'held']);
  });

  test('a store that is full or forbidden is told once, and what waits is kept in memory', async (t) => {
    const fail = async () => { throw new Error('QuotaExceededError'); };
    const topic = topicOf('full');
    const it = client(t, server.url, { outbox: { store: { get: fail, set: fail } } });
    for (const number of upTo(3)) await it.publish(topic, number);
    assert.deepEqual(await bodies(topic), upTo(3));
    assert.deepEqual(it.problems.map(({ reason }) => reason), ['the storage can’t be used, what waits is kept in memory only: QuotaExceededError']);
  });

  test('without an outbox it is published at once or fails', async (t) => {
    const through = await proxy(t, {});
    through.cut(true);
    const it = client(t, through.url);
    await assert.rejects(it.publish('t', 1, { queue: false }), (problem) => problem.status === 0 && problem.isPassing);
    await assert.rejects(client(t, through.url, { outbox: false }).publish('t', 1), Problem);
  });

  test('a server that has forgotten the producer is told under another name', async (t) => {
    const keys = [];
    const fetch = async (address, options) => {
      const key = options.headers['Idempotency-Key'];
      keys.push(key.split(':'));
      const [, producer, number] = key.split(':');
      if (keys.length > 2 && producer === keys[0][1]) return Response.json({ detail: 'not the next', expected: 1 }, { status: 409 });
      return Response.json({ id: 'i', cursor: 'c', durability: 'fsync', number });
    };
    const it = client(t, server.url, { fetch });
    for (const number of upTo(4)) await it.publish('t', number);
    assert.deepEqual(keys.map(([, , number]) => number), ['1', '2', '3', '1', '2']);
    assert.notEqual(keys[3][1], keys[0][1]);
  });

  test('a number that a message given up may have used is not the next one’s', async (t) => {
    const store = new Map();
    let tries = 0;
    const accepted = [];
    const fetch = async (address, { headers, body }) => {
      const key = headers['Idempotency-Key'];
      tries += 1;
      if (tries === 1) {
        store.set(key, body); // it arrives, the answer doesn't
        throw new TypeError('cut');
      }
      if (tries === 2) return Response.json({ detail: 'forbidden since' }, { status: 403 });
      const duplicate = store.has(key);
      if (!duplicate) accepted.push(body);
      store.set(key, body);
      return Response.json({ id: 'i', cursor: 'c', durability: 'fsync', duplicate });
    };
    const it = client(t, server.url, { fetch });
    const first = it.publish('t', 'first');
    const second = it.publish('t', 'second');
    await assert.rejects(first, /forbidden since/);
    await second;
    assert.deepEqual(accepted, ['second']);
  });
});

describe('lines that are dead', () => {
  test('a browser that says offline is believed at once, and tries again all the same', async (t) => {
    const page = browserEvents(t);
    const topic = topicOf('offline');
    const { got, take, has } = inbox();
    const it = client(t, server.url);
    await it.subscribe(topic, take).ready;
    const opened = event(it, 'state', ({ state }) => state === 'open');
    page.dispatchEvent(new Event('offline'));
    assert.deepEqual([it.state, it.wire], ['waiting', undefined]);
    await publish(topic, [0]);
    await opened;
    await has(1);
    assert.deepEqual(got, [0]);
  });

  test('a clock that jumps makes the client look after its connection at once', async (t) => {
    let ahead = 0;
    const through = await proxy(t, {});
    const topic = topicOf('jump');
    const { got, take, has } = inbox();
    const it = client(t, through.url, { now: () => Date.now() + ahead, wires: ['ws'], probeMs: 300 });
    await it.subscribe(topic, take).ready;
    const opened = event(it, 'state', ({ state }) => state === 'open');
    through.freeze();
    ahead = 3_600_000;
    await event(it, 'state', ({ state }) => state === 'waiting');
    await opened;
    await publish(topic, [0]);
    await has(1);
    assert.deepEqual(got, [0]);
  });

  test('a clock set back an hour changes nothing', async (t) => {
    let now = Date.now();
    const topic = topicOf('back');
    const { got, take, has } = inbox();
    const it = client(t, server.url, { now: () => now });
    await it.subscribe(topic, take).ready;
    now -= 3_600_000;
    await publish(topic, [0]);
    await has(1);
    assert.deepEqual([got, it.wire], [[0], 'ws']);
  });
});
