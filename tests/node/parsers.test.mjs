/** Parsers without a server: of event streams and of MQTT packets. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventStreamParser } from '../../sdk/js/src/sse.js';
import { PacketParser } from '../../web/mqtt.js';

const EXPECTED = [
  { id: 'k:1', event: 'chat', data: 'one' },
  { id: 'k:2', event: '', data: 'two\n\nlines' },
  { id: 'k:3', event: '', data: null },
  { id: null, event: '', data: ' indented: twice' },
];
const lines = [
  ':padding', 'retry: 1500', '', 'id: k:1', 'event: chat', 'data: one', '', ': heartbeat', '',
  'id: k:2', 'data: two', 'data', 'data:lines', 'unknown: field', '', 'id: k:3', '', 'data:  indented: twice', '', '',
];

for (const [name, end] of [['LF', '\n'], ['CR LF', '\r\n'], ['CR', '\r']]) {
  test(`a stream with ${name} is the same however it is cut`, () => {
    // A CR at the end waits for an LF that may follow, so a last comment completes the stream.
    const text = lines.join(end) + ':';
    for (let cut = 0; cut <= text.length; cut += 1) {
      const parser = new EventStreamParser();
      const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
      assert.deepEqual(events, EXPECTED, `cut at ${cut}`);
    }
  });
}

test('an unfinished event is not given', () => {
  const parser = new EventStreamParser();
  assert.deepEqual(parser.push('data: half\n'), []);
  assert.deepEqual(parser.push('\n'), [{ id: null, event: '', data: 'half' }]);
});

test('MQTT packets are the same however they are cut', () => {
  const connack = [0x20, 3, 0, 0, 0];
  const suback = [0x90, 27, 0, 1, 23, 38, 0, 16, ...Buffer.from('everywire-cursor'), 0, 2, ...Buffer.from('k1'), 0];
  const publish = [0x30, 29, 0, 1, 97, 23, 38, 0, 16, ...Buffer.from('everywire-cursor'), 0, 2, ...Buffer.from('k2'), 104, 105];
  const disconnect = [0xe0, 2, 0x8e, 0];
  const bytes = Uint8Array.from([...connack, ...suback, ...publish, ...disconnect]);
  const whole = new PacketParser().push(bytes);
  assert.equal(whole.length, 3);
  assert.deepEqual(whole[0], { cursor: 'k1' });
  assert.equal(whole[1].message.topic, 'a');
  assert.equal(whole[1].message.cursor, 'k2');
  assert.equal(whole[2].closed, 0x8e);
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const parser = new PacketParser();
    assert.deepEqual([...parser.push(bytes.subarray(0, cut)), ...parser.push(bytes.subarray(cut))], whole, `cut at ${cut}`);
  }
});

test('a message over MQTT that is no text comes as bytes, as on the other wires', () => {
  const [said] = new PacketParser().push(Uint8Array.from([0x30, 6, 0, 1, 97, 0, 255, 1]));
  assert.deepEqual([said.message.bytes, said.message.body], [Uint8Array.of(255, 1), undefined]);
});
