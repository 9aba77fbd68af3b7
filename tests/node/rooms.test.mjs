/** `everywire/rooms` against the server: what two people and their devices see of each other. */

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Rooms } from '../../sdk/js/src/rooms.js';
import { WIRES, client, event, inbox, test } from './kit.mjs';
import { Server } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());

/** A guest with a client, who follows everything of theirs. */
async function person(t, name, options = {}) {
  const response = await fetch(`${server.url}/v1/guests`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name }) });
  const { token, user } = await response.json();
  return { user, token, ...device(t, token, options) };
}

function device(t, token, options = {}) {
  const it = client(t, server.url, { token, ...options });
  const rooms = new Rooms(it);
  const box = inbox();
  const following = rooms.follow(box.take);
  return { it, rooms, following, ...box };
}

for (const wire of WIRES) {
  test(`over ${wire} one subscription brings the inbox and every room, also one that is joined later`, async (t) => {
    const [ann, bob] = [await person(t, 'Ann'), await person(t, 'Bob', { wires: [wire] })];
    await bob.following.ready;
    await ann.rooms.found(`later-${wire}`);
    await bob.rooms.join(`later-${wire}`);
    await ann.it.publish(`room/later-${wire}`, 'in the room', { event: 'chat' });
    await ann.it.publish(`user/${bob.user}`, 'to you alone', { event: 'chat' });
    await bob.has(2);
    assert.deepEqual(bob.got, ['in the room', 'to you alone']);
  });
}

for (const wire of ['ws', 'sse']) {
  test(`over ${wire} it is told who types, not more often than once in a while, and how far somebody has read`, async (t) => {
    const [ann, bob] = [await person(t, 'Ann', { wires: [wire] }), await person(t, 'Bob', { wires: [wire] })];
    const [room, conversation] = [`signals-${wire}`, `room/signals-${wire}`];
    await Promise.all([ann.following.ready, bob.following.ready]);
    await ann.rooms.found(room);
    await bob.rooms.join(room);
    await ann.it.publish(conversation, 'hello', { event: 'chat' });
    await bob.has(1);
    const typing = event(bob.it, 'signal', ({ kind }) => kind === 'typing');
    for (let n = 0; n < 10; n += 1) ann.rooms.typing(conversation);
    assert.deepEqual(await typing, { conversation, kind: 'typing', user: ann.user });
    const read = event(ann.it, 'signal', ({ kind }) => kind === 'read');
    const { cursor, unread } = await bob.rooms.conversation(conversation).then(({ last, unread }) => ({ cursor: last.cursor, unread }));
    assert.equal(unread, 1);
    await bob.rooms.read(conversation, cursor);
    assert.deepEqual(await read, { conversation, kind: 'read', user: bob.user, cursor });
    assert.equal((await bob.rooms.conversation(conversation)).unread, 0);
  });
}

test('between two it is told that a message has come, and what is changed on one device comes to the other', async (t) => {
  const [ann, bob] = [await person(t, 'Ann'), await person(t, 'Bob')];
  const phone = device(t, bob.token, { wires: ['sse'] });
  await Promise.all([ann.following.ready, bob.following.ready, phone.following.ready]);
  await ann.it.publish(`user/${bob.user}`, 'psst', { event: 'chat' });
  await bob.has(1);
  const { last } = await bob.rooms.conversation(`user/${ann.user}`);
  const received = event(ann.it, 'signal', ({ kind }) => kind === 'received');
  await bob.rooms.received(`user/${ann.user}`, last.cursor);
  assert.equal((await received).conversation, `user/${bob.user}`);
  const changed = event(phone.it, 'conversation', ({ pinned }) => pinned);
  await bob.rooms.settings(`user/${ann.user}`, { pinned: true });
  assert.equal((await changed).conversation, `user/${ann.user}`);
});

test('whether somebody looks at a device is told, and the members say it too', async (t) => {
  const [ann, bob] = [await person(t, 'Ann'), await person(t, 'Bob')];
  await Promise.all([ann.following.ready, bob.following.ready]);
  await ann.rooms.found('presence');
  await bob.rooms.join('presence');
  const presence = async () => (await ann.rooms.members('presence')).members.find(({ user }) => user === bob.user).presence;
  for (const [isActive, kind] of [[false, 'away'], [true, 'here']]) {
    const told = event(ann.it, 'signal', (signal) => signal.kind === kind && signal.user === bob.user);
    bob.rooms.active(isActive);
    await told;
    assert.equal(await presence(), kind);
  }
});

test('nothing comes of whom one has blocked', async (t) => {
  const [ann, bob] = [await person(t, 'Ann'), await person(t, 'Bob')];
  await ann.rooms.block(bob.user);
  assert.deepEqual((await ann.rooms.blocked()).blocked, [bob.user]);
  await assert.rejects(bob.it.publish(`user/${ann.user}`, 'psst', { event: 'chat' }), { status: 403 });
  await ann.rooms.block(bob.user, false);
  await bob.it.publish(`user/${ann.user}`, 'psst', { event: 'chat' });
});
