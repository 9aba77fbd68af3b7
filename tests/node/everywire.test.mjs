/** The client module without a browser: its parser of event streams. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const source = await readFile(new URL('../../web/everywire.js', import.meta.url), 'utf8');
const { EventStreamParser } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

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
      assert.equal(parser.retryMs, 1500);
    }
  });
}

test('an unfinished event is not given', () => {
  const parser = new EventStreamParser();
  assert.deepEqual(parser.push('data: half\n'), []);
  assert.deepEqual(parser.push('\n'), [{ id: null, event: '', data: 'half' }]);
});
