/** The code that the tests of the client share. */

import { WebSocket } from 'ws';

import { Everywire } from '../../sdk/js/src/everywire.js';

export { test } from './support.mjs';

export const WIRES = ['ws', 'sse', 'longpoll', 'poll'];
const QUICK = { pollMs: 20, retryMs: [10, 100] };

let count = 0;
/** A topic of its own for each test. */
export const topicOf = (name) => `${name}/${count += 1}`;

/** A client that is closed when the test ends; `states` are those that it had. */
export function client(t, url, options = {}) {
  const it = new Everywire(url, { WebSocket, ...QUICK, ...options });
  it.states = [];
  it.problems = [];
  it.gaps = [];
  it.on('state', (event) => it.states.push(event));
  it.on('problem', (problem) => it.problems.push(problem));
  it.on('gap', (gap) => it.gaps.push(gap));
  t.after(() => it.close());
  return it;
}

/** The messages that arrive, and a promise of the moment at which there are this many. */
export function inbox() {
  const got = [];
  const waiting = [];
  return {
    got,
    take: (message) => {
      got.push(message.body);
      for (const { many, resolve } of waiting) if (got.length >= many) resolve();
    },
    has: (many) => new Promise((resolve) => {
      if (got.length >= many) resolve();
      waiting.push({ many, resolve });
    }),
  };
}

export const upTo = (n) => Array.from({ length: n }, (_, i) => i);

/** Resolves with the first event that fits. */
export const event = (it, kind, fits = () => true) => new Promise((resolve) => {
  const end = it.on(kind, (event) => {
    if (fits(event)) {
      end();
      resolve(event);
    }
  });
});
