/** The chat on a network that answers late: an older answer never takes the place of a newer one. */

import assert from 'node:assert/strict';

import { heard, line, pair, person, promise, ready, room, say, settled, test, unfold } from './people.mjs';

/** Keeps the server's first answer to a method back until `release` is called, while later ones pass. */
function late(pattern, method = 'GET') {
  const [asked, answered, released] = [promise(), promise(), promise()];
  let isFirst = true;
  const hold = (page) => page.route(pattern, async (route) => {
    if (!isFirst || route.request().method() !== method) return route.fallback();
    isFirst = false;
    const response = await route.fetch();
    asked.resolve();
    await released.done;
    const isIn = page.waitForEvent('requestfinished', (request) => request === route.request());
    await route.fulfill({ response });
    await isIn;
    return answered.resolve();
  });
  return { hold, asked: asked.done, release: async (page) => {
    released.resolve();
    await answered.done;
    // An answer to a later question comes behind it.
    await page.evaluate(async () => (await fetch('/healthz')).text());
    await settled(page);
  } };
}

test('a room that is made while the page still asks for its rooms stays', async (t) => {
  const [rooms, early] = [late('**/v1/rooms?member=me*'), late('**/v1/rooms/early')];
  const ann = await person(t, 'Ann', { ready: (page) => Promise.all([rooms.hold(page), early.hold(page)]) });
  await rooms.asked;
  const made = room(ann, 'Early');
  await early.asked;
  await rooms.release(ann);
  await early.release(ann);
  await made;
  await say(ann, 'still here');
  await heard(ann, 'still here');
  assert.equal(await ann.locator('.entry').filter({ hasText: 'Early' }).count(), 1);
  assert.deepEqual(ann.faults, []);
});

test('a room that is left while the page asks for its rooms doesn’t come back', async (t) => {
  const [ann, bob] = await pair(t, 'Left');
  const { hold, asked, release } = late('**/v1/rooms?member=me*');
  await hold(bob);
  await ann.getByRole('link', { name: 'Write to Bob alone' }).waitFor();
  await bob.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await asked;
  await bob.getByRole('button', { name: 'Leave' }).click();
  await bob.getByRole('button', { name: 'Join' }).waitFor();
  await release(bob);
  assert.equal(await bob.getByRole('button', { name: 'Join' }).count(), 1);
  assert.equal(await bob.locator('#composer').count(), 0);
});

test('a setting that is changed while the page asks for its conversations stays', async (t) => {
  const [ann, bob] = await pair(t, 'Settled');
  const { hold, asked, release } = late('**/v1/conversations');
  await hold(bob);
  await ann.getByRole('link', { name: 'Write to Bob alone' }).click();
  await ann.locator('#talk-title').filter({ hasText: 'Bob' }).waitFor();
  await say(ann, 'psst');
  await asked;
  await bob.locator('.settings summary').click();
  await bob.locator('.menu').getByLabel('Keep it on top').check();
  const top = bob.locator('.entry').filter({ hasText: 'Settled' }).getByRole('img', { name: 'on top' });
  await top.waitFor();
  await release(bob);
  await bob.locator('.entry').filter({ hasText: 'psst' }).waitFor();
  assert.equal(await top.count(), 1);
});

test('a door shows the room whose address was opened last', async (t) => {
  const ann = await person(t, 'Ann');
  const [first, second] = [await room(ann, 'First'), await room(ann, 'Second')];
  const { hold, asked, release } = late(`**/v1/rooms/${first.split('/')[2]}`);
  const bob = await person(t, 'Bob', { path: first, ready: hold });
  await asked;
  await bob.evaluate((hash) => { location.hash = hash; }, second);
  // Until its head is there, the room has its name in lower case.
  await bob.locator('#talk-title').filter({ hasText: /^Second$/ }).waitFor();
  await release(bob);
  assert.equal(await bob.locator('#talk-title').textContent(), 'Second');
  await bob.getByRole('button', { name: 'Join' }).click();
  await ready(bob);
  await say(bob, 'the right one');
  await ann.locator('#talk-title').filter({ hasText: 'Second' }).waitFor();
  await line(ann, 'the right one').waitFor();
});

test('a late answer to one line’s recall leaves another line’s actions open', async (t) => {
  const [ann] = await pair(t, 'Two');
  for (const text of ['the first', 'the second']) {
    await say(ann, text);
    await heard(ann, text);
  }
  const { hold, asked, release } = late('**/v1/messages/*', 'DELETE');
  await hold(ann);
  await unfold(ann, 'the first');
  await ann.getByRole('button', { name: 'Recall' }).click();
  await asked;
  await unfold(ann, 'the second');
  await line(ann, 'the second').locator('.acts').waitFor();
  await release(ann);
  await line(ann, 'the second').locator('.acts').getByRole('button', { name: 'Recall' }).click();
  await line(ann, 'the second').waitFor({ state: 'detached' });
});
