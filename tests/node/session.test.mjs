/** Sessions, over cuts and kills, and signals, on the wires that have them. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { after, before, describe } from 'node:test';

import { WebSocket, WebSocketServer } from 'ws';

import { client, event, inbox, test, topicOf } from './kit.mjs';
import { Proxy } from './proxy.mjs';
import { STEP_MS, Server } from './support.mjs';

/** A WebSocket that shows what is said over it, both ways, one list for all sockets. */
function spy() {
  const frames = [];
  const note = (way, text) => {
    const [[name, content]] = Object.entries(JSON.parse(text));
    frames.push({ way, name, content });
  };
  const Spy = class extends WebSocket {
    constructor(...address) {
      super(...address);
      this.on('message', (text) => note('in', text));
    }

    send(text) {
      note('out', text);
      super.send(text);
    }
  };
  return { Spy, named: (name) => frames.filter((frame) => frame.name === name).map(({ content }) => content) };
}

/** Looks again and again until it is so. */
async function until(look) {
  for (const begun = Date.now(); !await look(); await pause(20)) {
    assert.ok(Date.now() - begun < STEP_MS, `it never became so: ${look}`);
  }
}

describe('a session', () => {
  let server;
  let admin;
  before(async () => {
    server = await Server.start();
    admin = (await readFile(join(server.home, 'data', 'admin.token'), 'utf8')).trim();
  });
  after(() => server.stop());

  const publish = async (topic, body) => (await (await fetch(`${server.url}/v1/messages?topic=${topic}`, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } })).json()).id;
  const fate = async (id) => (await (await fetch(`${server.url}/v1/messages/${id}/trace`, { headers: { Authorization: `Bearer ${admin}` } })).json()).recipients[0]?.fate;

  test('the server knows what was handled, and what was only received', async (t) => {
    const topic = topicOf('session');
    let finish;
    const it = client(t, server.url, { session: true });
    await it.subscribe(topic, ({ body }) => (body === 1 ? new Promise((resolve) => { finish = resolve; }) : undefined)).ready;
    const [first, second] = [await publish(topic, 0), await publish(topic, 1)];
    await until(async () => await fate(first) === 'acknowledged' && finish);
    assert.equal(await fate(second), 'written');
    finish();
    await until(async () => await fate(second) === 'acknowledged');
    assert.deepEqual(it.problems, []);
  });

  test('it goes on over cuts and a killed server, without asking again, each message once', async (t) => {
    const proxy = await Proxy.start(server.url);
    t.after(() => proxy.stop());
    const [topic, gone] = [topicOf('session'), topicOf('session')];
    const { Spy, named } = spy();
    const { got, take, has } = inbox();
    const it = client(t, proxy.url, { session: true, wires: ['ws'], WebSocket: Spy });
    const leaving = it.subscribe(gone, take);
    await Promise.all([it.subscribe(topic, take).ready, leaving.ready]);
    await publish(topic, 0);
    await has(1);
    for (const [round, fault] of [() => proxy.cut(), () => server.restart()].entries()) {
      proxy.cut(true);
      leaving.close();
      await fault();
      await publish(topic, 1 + round);
      const open = event(it, 'state', ({ state }) => state === 'open');
      proxy.isDown = false;
      await open;
      await has(2 + round);
    }
    await publish(gone, 'for nobody');
    await publish(topic, 3);
    await has(4);
    assert.deepEqual(got, [0, 1, 2, 3]);
    const [welcome, ...others] = named('welcome');
    assert.equal(named('hello')[0].session, 'new');
    assert.ok(welcome.session && others.length >= 2);
    for (const { session, resumed } of others) assert.deepEqual([session, resumed], [welcome.session, true]);
    assert.equal(named('subscribe').length, 2, 'only the first connection asked');
    assert.deepEqual(new Set(named('unsubscribe').flatMap(({ topics }) => topics)), new Set([gone]));
    assert.deepEqual([it.problems, it.gaps], [[], []]);
  });

  for (const session of [true, false]) {
    test(`what is subscribed to while the socket opens is heard, ${session ? 'with a session' : 'without one'}`, async (t) => {
      let begun;
      const opening = new Promise((resolve) => { begun = resolve; });
      const Opening = class extends WebSocket {
        constructor(...address) {
          super(...address);
          begun(this);
        }
      };
      const it = client(t, server.url, { session, wires: ['ws'], WebSocket: Opening });
      const [topics, boxes] = [[topicOf('opening'), topicOf('opening'), topicOf('opening')], [inbox(), inbox(), inbox()]];
      it.subscribe(topics[0], boxes[0].take);
      const socket = await opening;
      assert.equal(socket.readyState, WebSocket.CONNECTING);
      it.subscribe(topics[1], boxes[1].take);
      await once(socket, 'open');
      await it.subscribe(topics[2], boxes[2].take).ready;
      for (const topic of topics) await publish(topic, topic);
      await Promise.all(boxes.map(({ has }) => has(1)));
      assert.deepEqual(boxes.map(({ got }) => got), topics.map((topic) => [topic]));
    });
  }

  test('one that the server doesn’t know any more begins anew, and the cursor sees to it that nothing is lost', async (t) => {
    const proxy = await Proxy.start(server.url);
    t.after(() => proxy.stop());
    const topic = topicOf('session');
    const { got, take, has } = inbox();
    const Forgetful = class extends WebSocket {
      send(text) {
        const frame = JSON.parse(text);
        if (frame.hello?.session) frame.hello.session = 'nobody-knows-it';
        super.send(JSON.stringify(frame));
      }
    };
    const it = client(t, proxy.url, { session: true, wires: ['ws'], WebSocket: Forgetful });
    await it.subscribe(topic, take).ready;
    await publish(topic, 0);
    await has(1);
    proxy.cut(true);
    await publish(topic, 1);
    const open = event(it, 'state', ({ state }) => state === 'open');
    proxy.isDown = false;
    await open;
    await has(2);
    assert.deepEqual(got, [0, 1]);
  });

  test('where WebSocket doesn’t get through it reads without one', async (t) => {
    const proxy = await Proxy.start(server.url, { upgrades: 'block' });
    t.after(() => proxy.stop());
    const topic = topicOf('session');
    const { take, has } = inbox();
    const it = client(t, proxy.url, { session: true });
    await it.subscribe(topic, take).ready;
    await publish(topic, 0);
    await has(1);
    assert.equal(it.wire, 'sse');
  });
});

describe('signals', () => {
  const SIGNAL = { conversation: 'room/lobby', kind: 'typing', user: 'bob' };

  /** A server that confirms every subscription and then says that somebody types. */
  async function typing(t) {
    const server = http.createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(`: well\n\nevent: signal\ndata: ${JSON.stringify(SIGNAL)}\n\n`);
    });
    new WebSocketServer({ server }).on('connection', (socket) => socket.on('message', (text) => {
      const { subscribe } = JSON.parse(text);
      if (!subscribe) return;
      socket.send(JSON.stringify({ subscribed: { id: subscribe.id, cursor: 'k:1', gap: false } }));
      socket.send(JSON.stringify({ signal: SIGNAL }));
    }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => { server.closeAllConnections(); server.close(); });
    return `http://127.0.0.1:${server.address().port}`;
  }

  for (const wire of ['ws', 'sse']) {
    test(`${wire} brings them`, async (t) => {
      const it = client(t, await typing(t), { wires: [wire], outbox: false });
      const heard = event(it, 'signal');
      it.subscribe('room/lobby', () => {}, { after: 'k:1' });
      assert.deepEqual(await heard, SIGNAL);
      assert.deepEqual(it.problems, []);
    });
  }
});
