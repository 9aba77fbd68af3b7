/** MQTT as npm's `mqtt` speaks it, over TCP and over WebSocket. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { connectAsync } from 'mqtt';

import { Server } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());

const ways = {
  tcp: () => `mqtt://${server.mqtt}`,
  '/mqtt': () => `${server.url.replace('http', 'ws')}/mqtt`,
  '/v1/ws': () => `${server.url.replace('http', 'ws')}/v1/ws`,
};

/** A client and the messages that come, in order. */
async function connect(way, options) {
  const client = await connectAsync(ways[way](), { reconnectPeriod: 50, ...options });
  const arrived = [];
  const waiting = [];
  client.on('message', (topic, payload, packet) => {
    const message = { body: String(payload), qos: packet.qos, retain: packet.retain, properties: packet.properties };
    if (waiting.length > 0) waiting.shift()(message);
    else arrived.push(message);
  });
  const next = async () => arrived.shift() ?? new Promise((resolve) => { waiting.push(resolve); });
  return { client, next };
}

for (const way of Object.keys(ways)) {
  for (const protocolVersion of [4, 5]) {
    test(`every QoS both ways, ${way}, version ${protocolVersion}`, async () => {
      const topic = `qos${way}/${protocolVersion}`;
      const { client, next } = await connect(way, { protocolVersion });
      await client.subscribeAsync(topic, { qos: 2 });
      for (const qos of [0, 1, 2]) {
        await client.publishAsync(topic, `qos ${qos}`, { qos });
        const { body, qos: got } = await next();
        assert.deepEqual([body, got], [`qos ${qos}`, qos]);
      }
      await client.endAsync();
    });
  }
}

test('what came by HTTP says where it stands in the log, to a client that asks', async () => {
  const properties = { userProperties: { 'everywire-properties': '1' } };
  const { client, next } = await connect('/mqtt', { protocolVersion: 5, properties });
  const { client: plain, next: nextPlain } = await connect('/mqtt', { protocolVersion: 5 });
  await plain.subscribeAsync('across', { qos: 1 });
  await client.subscribeAsync('across', { qos: 1 });
  const answer = await fetch(`${server.url}/v1/messages?topic=across&event=chat`, { method: 'POST', body: 'hi' });
  const { cursor, id } = await answer.json();
  const told = (await next()).properties.userProperties;
  assert.deepEqual({ ...told }, { 'everywire-cursor': cursor, 'everywire-id': id, 'everywire-event': 'chat' });
  assert.equal((await nextPlain()).properties?.userProperties, undefined);
  await client.endAsync();
  await plain.endAsync();
});

test('a retained message greets, a will is published', async () => {
  const will = { topic: 'state', payload: 'gone', qos: 1, retain: true };
  const { client } = await connect('tcp', { will, reconnectPeriod: 0 });
  await client.publishAsync('state', 'there', { qos: 1, retain: true });
  const { client: heir, next } = await connect('/v1/ws', { protocolVersion: 5 });
  await heir.subscribeAsync('state', { qos: 1 });
  const greeting = await next();
  assert.deepEqual([greeting.body, greeting.retain], ['there', true]);
  client.stream.destroy();
  assert.equal((await next()).body, 'gone');
  await heir.endAsync();
});

test('a client comes back to its session by itself when the server was killed', async () => {
  const { client, next } = await connect('tcp', { clientId: 'lasting', clean: false });
  await client.subscribeAsync('again', { qos: 1 });
  // While the server is away, it is refused.
  client.on('error', () => {});
  const back = new Promise((resolve) => { client.once('connect', resolve); });
  await server.restart();
  await back;
  await client.publishAsync('again', 'there', { qos: 1 });
  assert.equal((await next()).body, 'there');
  await client.endAsync();
});
