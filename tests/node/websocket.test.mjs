/** WebSocket as npm's `ws` speaks it: the native protocol in JSON. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import { WebSocket } from 'ws';

import { Server } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());

/** An open socket with the frames that come, in order. */
async function connect(options = {}) {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/ws`, options);
  const arrived = [];
  const waiting = [];
  socket.on('message', (data, isBinary) => {
    assert.equal(isBinary, false);
    const frame = JSON.parse(data);
    if (waiting.length > 0) waiting.shift()(frame);
    else arrived.push(frame);
  });
  await once(socket, 'open');
  const next = async () => arrived.shift() ?? new Promise((resolve) => { waiting.push(resolve); });
  const ask = (frame) => { socket.send(JSON.stringify(frame)); return next(); };
  return { socket, next, ask };
}

async function publish(topic, body) {
  const answer = await fetch(`${server.url}/v1/messages?topic=${topic}`, { method: 'POST', body });
  assert.equal(answer.status, 200);
}

for (const perMessageDeflate of [true, false]) {
  test(`messages cross wires, ${perMessageDeflate ? 'deflated' : 'plain'}`, async () => {
    const topic = `deflate/${perMessageDeflate}`;
    const { socket, next, ask } = await connect({ perMessageDeflate });
    assert.equal((await ask({ subscribe: { id: 1, topics: [topic] } })).subscribed.id, 1);
    for (const body of ['hi', 'long '.repeat(10_000), '✓']) {
      await publish(topic, body);
      assert.equal((await next()).message.body, body);
    }
    socket.close(1000, 'done');
    const [code] = await once(socket, 'close');
    assert.equal(code, 1000);
  });
}

test('a message in fragments with a ping between them is one message', async () => {
  const { socket, next, ask } = await connect();
  await ask({ subscribe: { id: 1, topics: ['fragments'] } });
  const frame = JSON.stringify({ publish: { id: 2, topic: 'fragments', body: 'in pieces' } });
  const ponged = once(socket, 'pong');
  socket.send(frame.slice(0, 20), { fin: false });
  socket.ping('between');
  socket.send(frame.slice(20), { fin: true });
  assert.equal(String((await ponged)[0]), 'between');
  const frames = [await next(), await next()];
  assert.equal(frames.find((frame) => frame.published).published.id, 2);
  assert.equal(frames.find((frame) => frame.message).message.body, 'in pieces');
  socket.terminate();
});

test('a session goes on after the socket was cut', async () => {
  const first = await connect();
  const { session } = (await first.ask({ hello: { session: 'new', expiry: 60 } })).welcome;
  await first.ask({ subscribe: { id: 1, topics: ['kept'] } });
  first.socket.terminate();
  await publish('kept', 'while away');
  const second = await connect();
  assert.equal((await second.ask({ hello: { session } })).welcome.resumed, true);
  const { message } = await second.next();
  assert.equal(message.body, 'while away');
  second.socket.send(JSON.stringify({ ack: { cursor: message.cursor } }));
  second.socket.terminate();
});

test('what is not UTF-8 closes with 1007, what is no frame is told', async () => {
  const { socket, ask } = await connect();
  assert.equal((await ask({ nonsense: {} })).error.code, 400);
  const closed = once(socket, 'close');
  socket.send(Buffer.from([0x7b, 0xff, 0x7d]), { binary: false });
  assert.equal((await closed)[0], 1007);
});
