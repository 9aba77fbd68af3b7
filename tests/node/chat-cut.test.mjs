/** The chat on a network that fails: what failed once for a reason that passes is done again. */

import assert from 'node:assert/strict';

import { browser, findings, heard, line, pair, person, promise, ready, room, say, server, test, tokenOf } from './people.mjs';

/** The ways in which a request fails and may succeed the next time. */
const FAILURES = {
  'is cut off': (route) => route.abort('connectionreset'),
  'is answered by a server that starts': (route) => route.fulfill({ status: 503, headers: { 'Retry-After': '0' }, body: 'not yet' }),
  'is answered by a page of the network': (route) => route.fulfill({ status: 200, contentType: 'text/html', body: '<p>Log in' }),
};

/** Each question to the API, and each part that is loaded when it is shown, fails once. */
async function fails(page, fail) {
  const failed = new Set();
  await page.route(/\/v1\/(?!ws|events)|openapi\.json|\/web\/(chat\/(people|door|settings|fate)|sdk\/(outbox|past|session|http))\.js/, (route) => {
    const key = `${route.request().method()} ${new URL(route.request().url()).pathname}`;
    if (failed.has(key)) return route.fallback();
    failed.add(key);
    return fail(route);
  });
  return failed;
}

for (const [how, fail] of Object.entries(FAILURES)) {
  test(`when each request ${how} once, all is there in the end`, async (t) => {
    const title = `Torn ${Object.keys(FAILURES).indexOf(how) + 1}`;
    const [ann, bob] = await pair(t, title);
    await say(ann, 'hello');
    await heard(bob, 'hello');
    const phone = await browser.window();
    t.after(() => phone.context().close());
    const failed = await fails(phone, fail);
    await phone.goto(`${server.url}/chat#token=${await tokenOf(bob)}`);
    await phone.locator('.entry').filter({ hasText: title }).first().click();
    await heard(phone, 'hello');
    await ready(phone);
    await phone.locator('.person').filter({ hasText: 'Ann' }).waitFor();
    await say(phone, 'from the phone');
    await heard(ann, 'from the phone');
    assert.equal(await line(ann, 'from the phone').count(), 1);
    await phone.locator('.settings summary').click();
    await phone.getByLabel('Mute it').waitFor();
    await phone.keyboard.press('Escape');
    assert.deepEqual(await findings(phone), []);
    assert.ok(failed.size > 8, [...failed].join(', '));
  });
}

test('a room that a user founds elsewhere, before the wire of this window runs, is there', async (t) => {
  const ann = await person(t, 'Ann');
  const page = await browser.window();
  t.after(() => page.context().close());
  const [founded, runs] = [promise(), promise()];
  await page.routeWebSocket('**/v1/ws', async (socket) => {
    await founded.done;
    const upstream = socket.connectToServer();
    upstream.onMessage((frame) => {
      socket.send(frame);
      if (frame.includes('"subscribed"')) runs.resolve();
    });
  });
  await page.route('**/v1/events?*', (route) => founded.done.then(() => route.continue()));
  await page.route('**/v1/messages?*', (route) => founded.done.then(() => route.continue()));
  // A page that has waited for its WebSocket for too long runs over another wire.
  page.on('response', (response) => { if (/\/v1\/(events|messages)\?/.test(response.url())) runs.resolve(); });
  // The page is still busy with its first questions when the wire runs.
  await page.route('**/v1/conversations', (route) => runs.done.then(() => route.continue()));
  const answered = page.waitForResponse(/\/v1\/rooms\?member=me/);
  await page.goto(`${server.url}/chat#token=${await tokenOf(ann)}`);
  await (await answered).finished();
  await room(ann, 'Elsewhere founded');
  founded.resolve();
  await page.locator('.entry').filter({ hasText: 'Elsewhere founded' }).waitFor();
  // It is one of the user's own, not one to join.
  await page.locator('.entry').filter({ hasText: 'Elsewhere founded' }).click();
  await ready(page);
});
