/** The client's tokens: asked for once at a time, renewed in time, shown in no address. */

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before } from 'node:test';

import { WIRES, client, event, inbox, test, topicOf } from './kit.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './support.mjs';

const secret = 'a secret of at least thirty-two bytes';
const jwt = (claims) => {
  const part = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
};
const now = () => Math.floor(Date.now() / 1000);
let guarded;
before(async () => { guarded = await Server.start({ EVERYWIRE_AUTH_SECRET: secret, EVERYWIRE_AUTH_ANONYMOUS: 'false' }); });
after(() => guarded.stop());

for (const wire of WIRES) {
  test(`${wire}: a function is asked once at a time, and again after a 401`, async (t) => {
    const asked = [];
    const token = async (why) => {
      asked.push(why);
      return why === 'refused' ? jwt({ sub: 'ann', exp: now() + 600 }) : jwt({ sub: 'ann', exp: now() - 600 });
    };
    const { got, take, has } = inbox();
    const it = client(t, guarded.url, { token, wires: [wire] });
    const topic = topicOf('token');
    await Promise.all([it.subscribe(topic, take).ready, it.publish(topicOf('token'), 1)]);
    await it.publish(topic, 'hi');
    await has(1);
    assert.deepEqual([got, it.user], [['hi'], 'ann']);
    assert.deepEqual(asked, ['start', 'refused']);
  });

  test(`${wire}: a fresh token is asked for before the old one ends`, async (t) => {
    let ahead = 0;
    const asked = [];
    const it = client(t, guarded.url, {
      wires: [wire],
      now: () => Date.now() + ahead,
      token: async (why) => { asked.push(why); return jwt({ sub: 'ann', iat: now(), exp: now() + 1000 }); },
    });
    const { take, has } = inbox();
    const topic = topicOf('token');
    await it.subscribe(topic, take).ready;
    ahead = 950_000;
    while (asked.length < 2) await new Promise(setImmediate);
    await it.publish(topic, 'hi');
    await has(1);
    assert.deepEqual(asked, ['start', 'expiring']);
  });

  test(`${wire}: without a good token it is refused, in words`, async (t) => {
    const it = client(t, guarded.url, { token: 'nonsense', wires: [wire] });
    it.subscribe('t', () => {});
    const { reason } = await event(it, 'state', ({ state }) => state === 'refused');
    assert.match(reason, /token/);
  });
}

test('the token is in no address', async (t) => {
  const through = await Proxy.start(guarded.url);
  t.after(() => through.stop());
  const token = jwt({ sub: 'ann' });
  for (const wire of WIRES) await client(t, through.url, { token, wires: [wire] }).subscribe('t', () => {}).ready;
  assert.ok(through.requests.length >= 4);
  assert.ok(through.requests.every((line) => !line.includes(token.slice(0, 20)) && !line.includes('token=')), through.requests.join('\n'));
});
