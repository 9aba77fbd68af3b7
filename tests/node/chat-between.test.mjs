/** The chat: what passes between people, and what gets in their way. */

import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { browser, findings, heard, injector, KEPT, line, pair, person, picture, publish, ready, room, say, server, speaks, test, texts, tokenOf, topicOf, withhold } from './people.mjs';
import { Server } from './support.mjs';

describe('what passes between people', () => {
  for (const wire of ['ws', 'sse']) {
    test(`who types is told over ${wire}, once in a while, until it is said`, async (t) => {
      const [ann, bob] = await pair(t, `Typing ${wire}`);
      for (const page of [ann, bob]) await speaks(page, wire);
      await say(ann, 'hello');
      await heard(bob, 'hello');
      await bob.getByText('Ann').first().waitFor();
      let told = 0;
      ann.on('request', (request) => { told += request.url().endsWith('/typing') ? 1 : 0; });
      const typing = bob.locator('.typing').filter({ hasText: 'Ann types …' });
      let letters = 0;
      for (; await typing.count() === 0; letters += 1) await ann.locator('#composer').press('a');
      await picture(bob, `typing-${wire}`);
      for (let more = 0; more < 10; more += 1, letters += 1) await ann.locator('#composer').press('a');
      await ann.locator('#composer').press('Enter');
      await heard(bob, 'a'.repeat(letters));
      await bob.locator('.typing').filter({ hasText: /^$/ }).waitFor();
      if (wire === 'sse') assert.ok(told >= 1 && told < letters, `${told} requests for ${letters} letters`);
      assert.deepEqual([ann.faults, bob.faults], [[], []]);
    });
  }

  test('one’s own line is kept, then read, by whom, and still so after a reload', async (t) => {
    const [ann, bob] = await pair(t, 'Read marks');
    await room(bob, 'Elsewhere');
    await say(ann, 'look here');
    await line(ann, 'look here').locator('.mark[aria-label=kept]').waitFor();
    await bob.locator('.entry').filter({ hasText: 'Read marks' }).click();
    await heard(bob, 'look here');
    await line(ann, 'look here').locator('.mark[aria-label="read by 1"]').waitFor();
    await picture(ann, 'read');
    await ann.reload();
    await line(ann, 'look here').locator('.mark[aria-label="read by 1"]').waitFor();
    const phone = await browser.window(`${server.url}/chat#token=${await tokenOf(ann)}`);
    t.after(() => phone.context().close());
    await phone.locator('.entry').filter({ hasText: 'Read marks' }).click();
    await line(phone, 'look here').locator('.mark[aria-label="read by 1"]').waitFor();
  });

  test('between two a line is kept, has arrived, is read; and one sees whether the other is there', async (t) => {
    const [ann, bob] = await pair(t, 'Two');
    await ann.getByRole('link', { name: 'Write to Bob alone' }).click();
    await ann.locator('#talk-title').filter({ hasText: 'Bob' }).waitFor();
    await say(ann, 'psst');
    await line(ann, 'psst').locator('.mark[aria-label=arrived]').waitFor();
    const entry = bob.locator('.entry').filter({ hasText: 'psst' });
    await entry.locator('.count').waitFor();
    await entry.click();
    await heard(bob, 'psst');
    await line(ann, 'psst').locator('.mark[aria-label=read]').waitFor();
    const phone = await browser.window(`${server.url}/chat#token=${await tokenOf(ann)}`);
    t.after(() => phone.context().close());
    await phone.locator('.entry').filter({ hasText: 'psst' }).click();
    await line(phone, 'psst').locator('.mark[aria-label=read]').waitFor();
    await ann.locator('.talk header').getByText('here', { exact: true }).waitFor();
    const hide = (page, isHidden) => page.evaluate((isHidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, isHidden);
    await hide(bob, true);
    await ann.locator('.talk header').getByText('away', { exact: true }).waitFor();
    await picture(ann, 'presence');
    await hide(bob, false);
    await ann.locator('.talk header').getByText('here', { exact: true }).waitFor();
    assert.deepEqual([ann.faults, bob.faults], [[], []]);
  });

  test('members are shown with the wires over which they are connected, and a room that ends is told', async (t) => {
    const [ann, bob, path] = await pair(t, 'Wires');
    const chips = ann.locator('.person').filter({ hasText: 'Bob' }).locator('.chip');
    await chips.filter({ hasText: /^WebSocket$/ }).waitFor();
    await bob.locator('#wire').selectOption('sse');
    await chips.filter({ hasText: /^SSE$/ }).waitFor();
    await chips.filter({ hasText: /^WebSocket$/ }).waitFor({ state: 'detached' });
    await picture(ann, 'wires');
    assert.deepEqual([ann.faults, bob.faults], [[], []]);
    const ended = await fetch(`${server.url}/v1/rooms/${path.split('/')[2]}`, { method: 'DELETE', headers: { Authorization: `Bearer ${await tokenOf(ann)}` } });
    assert.equal(ended.status, 200);
    await bob.getByText('there is no such room, or not for you').first().waitFor();
  });

  test('who is gone isn’t shown as there', async (t) => {
    const [ann, bob] = await pair(t, 'Ghosts');
    await say(bob, 'hello');
    await heard(ann, 'hello');
    const dot = (page, who) => page.locator('.person').filter({ hasText: who }).locator('.dot');
    await dot(ann, 'Bob').and(ann.getByRole('img', { name: 'here' })).waitFor();
    await picture(ann, 'people-here');
    await bob.context().close();
    await dot(ann, 'Bob').and(ann.getByRole('img', { name: /^last here:/ })).waitFor();
    await picture(ann, 'people-gone');
  });

  test('what comes while a window opens is new there', async (t) => {
    const [ann, bob] = await pair(t, 'Opening');
    await room(bob, 'Elsewhere');
    const phone = await browser.window();
    t.after(() => phone.context().close());
    let isHeld = true;
    const held = [];
    const history = '**/v1/messages?*before=latest*';
    await phone.route(history, (route) => (isHeld ? held.push(route) : route.continue()));
    const asked = phone.waitForRequest(history);
    await phone.goto(`${server.url}/chat#token=${await tokenOf(bob)}`);
    await asked;
    await say(ann, 'just now');
    await line(ann, 'just now').locator('.mark[aria-label=kept]').waitFor();
    isHeld = false;
    for (const route of held) await route.continue();
    await phone.locator('.entry').filter({ hasText: 'Opening' }).locator('.count').filter({ hasText: '1' }).waitFor();
  });

  test('what is read, pinned or joined on one device shows on the other at once', async (t) => {
    const [ann, bob] = await pair(t, 'Live');
    await room(bob, 'Another');
    const phone = await browser.window(`${server.url}/chat#token=${await tokenOf(bob)}`);
    t.after(() => phone.context().close());
    const entry = (page, text = 'Live') => page.locator('.entry').filter({ hasText: text });
    await entry(phone).waitFor();
    for (const text of ['one', 'two']) await say(ann, text);
    for (const page of [bob, phone]) await entry(page).locator('.count').filter({ hasText: '2' }).waitFor();
    await entry(phone).click();
    await heard(phone, 'two');
    for (const page of [bob, phone]) await entry(page).locator('.count').waitFor({ state: 'detached' });
    await phone.locator('.settings summary').click();
    await phone.getByLabel('Keep it on top').check();
    await entry(bob).getByRole('img', { name: 'on top' }).waitFor();
    await room(phone, 'Made on the phone');
    await entry(bob, 'Made on the phone').and(bob.locator('.list > .scroll > ul a')).waitFor();
    await phone.getByRole('button', { name: 'Leave the room' }).waitFor();
    assert.deepEqual([bob.faults, phone.faults], [[], []]);
  });
});

describe('what gets in the way', () => {
  test('no connection: what is said waits, says so, is sent once, and what others said comes', async (t) => {
    const [ann, bob] = await pair(t, 'Tunnel');
    await say(ann, 'first');
    await heard(bob, 'first');
    await bob.context().setOffline(true);
    await bob.locator('.banner').filter({ hasText: /No connection since/ }).waitFor();
    for (const text of ['a', 'b', 'c']) await say(bob, `in the tunnel ${text}`);
    await say(ann, 'meanwhile');
    await bob.locator('.banner').filter({ hasText: 'will be sent once: 3' }).waitFor();
    await picture(bob, 'offline');
    await bob.context().setOffline(false);
    await heard(ann, 'in the tunnel c');
    await heard(bob, 'meanwhile');
    for (const text of ['a', 'b', 'c']) await line(bob, `in the tunnel ${text}`).locator(KEPT).waitFor();
    const all = ['first', 'meanwhile', 'in the tunnel a', 'in the tunnel b', 'in the tunnel c'];
    assert.deepEqual([await texts(ann), await texts(bob)], [all, all]);
    await bob.locator('.banner:empty').waitFor({ state: 'attached' });
  });

  test('a server that was killed: nothing is lost', async (t) => {
    const [ann, bob] = await pair(t, 'Killed');
    await say(ann, 'before');
    await heard(bob, 'before');
    await server.restart();
    await say(ann, 'after');
    await heard(bob, 'after');
    assert.deepEqual(await texts(bob), ['before', 'after']);
  });

  test('a message too long is refused in the server’s words, and the text comes back when one wants it', async (t) => {
    const ann = await person(t, 'Ann');
    await room(ann, 'Long');
    const long = 'x'.repeat(300_000);
    await ann.locator('#composer').evaluate((field, text) => { field.value = text; field.dispatchEvent(new Event('input', { bubbles: true })); }, long);
    await ann.locator('#composer').press('Enter');
    await ann.locator('.line.refused .bad').filter({ hasText: /Not sent: .*262144|Not sent: .*bytes/ }).waitFor();
    await ann.waitForFunction(() => {
      const [list, words] = [document.querySelector('.lines'), document.querySelector('.line.refused .bad')].map((it) => it.getBoundingClientRect());
      return words.bottom <= list.bottom;
    });
    await picture(ann, 'too-long');
    await ann.locator('.line.refused summary').click();
    assert.equal((await ann.locator('.line.refused .body .text').allTextContents()).join('').length, long.length, 'all of it can be read');
    await ann.getByRole('button', { name: 'Write it again' }).click();
    assert.equal((await ann.locator('#composer').inputValue()).length, long.length);
    assert.equal(await ann.locator('.line.refused').count(), 0);
  });

  test('a full disk: the server’s words stand there, the text is kept, and is sent when there is room', async (t) => {
    const [ann, bob] = await pair(t, 'Disk');
    let isFull = true;
    await ann.route('**/v1/messages?*', (route) => (isFull && route.request().method() === 'POST'
      ? route.fulfill({ status: 503, contentType: 'application/problem+json', headers: { 'Retry-After': '1' }, json: { detail: 'the disk is full: nothing is taken just now' } })
      : route.continue()));
    await say(ann, 'no room');
    await ann.locator('.banner').filter({ hasText: 'the disk is full' }).waitFor();
    await line(ann, 'no room').locator('.mark[aria-label=waiting]').waitFor();
    await picture(ann, 'full-disk');
    isFull = false;
    await heard(bob, 'no room');
    await line(ann, 'no room').locator(KEPT).waitFor();
    assert.deepEqual(await texts(bob), ['no room']);
  });

  test('who is banned is told so, and keeps what they were writing', async (t) => {
    const [ann, bob] = await pair(t, 'Banned');
    await say(bob, 'hello');
    await heard(ann, 'hello');
    await bob.locator('#composer').fill('I was just');
    // The page is told: it needn't ask for the members to notice.
    await bob.route('**/members?*', (route) => route.abort());
    await ann.getByRole('button', { name: 'Ban Bob' }).click();
    await ann.locator('.person').filter({ hasText: 'Bob' }).waitFor({ state: 'detached' });
    await bob.locator('.ended').filter({ hasText: 'you are banned from this room' }).waitFor();
    await picture(bob, 'banned');
    assert.equal(await bob.getByLabel('What you were writing').inputValue(), 'I was just');
    assert.equal(await bob.getByLabel('What you were writing').isEditable(), false);
    assert.deepEqual(await findings(bob), []);
  });

  test('a line that is on its way when one is banned is refused in the server’s words, and stays readable', async (t) => {
    const [ann, bob] = await pair(t, 'Banned before');
    await say(bob, 'hello');
    await heard(ann, 'hello');
    const go = await withhold(bob);
    await say(bob, 'one more');
    await line(bob, 'one more').waitFor();
    await ann.getByRole('button', { name: 'Ban Bob' }).click();
    await ann.locator('.person').filter({ hasText: 'Bob' }).waitFor({ state: 'detached' });
    go.resolve();
    await line(bob, 'one more').locator('.bad').filter({ hasText: /Not sent: .*banned/ }).waitFor();
    await bob.locator('.ended').waitFor();
    assert.equal(await line(ann, 'one more').count(), 0);
  });

  test('signals: who types is said until they have said it, and how far others have read, which doesn’t go back', async (t) => {
    const { ready, inject } = injector();
    const [ann, bob, path] = await pair(t, 'Signals', { bob: { ready } });
    const conversation = topicOf(path);
    await say(ann, 'hello');
    await heard(bob, 'hello');
    await speaks(bob, 'ws');
    const user = await line(bob, 'hello').locator('.who b').getAttribute('title');
    inject({ signal: { conversation, kind: 'typing', user } });
    await bob.locator('.typing').filter({ hasText: 'Ann types …' }).waitFor();
    await say(ann, 'there');
    await heard(bob, 'there');
    await bob.locator('.typing').filter({ hasText: /^$/ }).waitFor();
    for (const text of ['one', 'two']) await say(bob, text);
    await heard(ann, 'two');
    const { messages } = await (await fetch(`${server.url}/v1/messages?topic=${conversation}&before=latest`, { headers: { Authorization: `Bearer ${await tokenOf(ann)}` } })).json();
    const cursors = messages.filter(({ from }) => from !== user).map(({ cursor }) => cursor);
    inject({ signal: { conversation, kind: 'read', user, cursor: cursors[1] } });
    inject({ signal: { conversation, kind: 'read', user, cursor: cursors[0] } });
    for (const text of ['one', 'two']) await line(bob, text).locator('.mark[aria-label="read by 1"]').waitFor();
    await picture(bob, 'signals');
  });

  test('thousands of read marks and comings and goings: the page keeps up', async (t) => {
    const { ready, inject } = injector();
    const ann = await person(t, 'Ann', { ready });
    const conversation = topicOf(await room(ann, 'Storm'));
    await publish(ann, conversation, Array.from({ length: 150 }, (_, n) => `mine ${n}.`));
    await heard(ann, 'mine 149.');
    await speaks(ann, 'ws');
    const { messages } = await (await fetch(`${server.url}/v1/messages?topic=${conversation}&before=latest&limit=150`, { headers: { Authorization: `Bearer ${await tokenOf(ann)}` } })).json();
    for (const [turn, { cursor }] of messages.entries()) {
      for (let n = 0; n < 20; n += 1) inject({ signal: { conversation, kind: 'read', user: `reader-${(turn * 20 + n) % 400}`, cursor } });
      inject({ signal: { conversation: 'user/reader-1', kind: turn % 2 ? 'here' : 'away', user: 'reader-1' } });
    }
    await line(ann, 'mine 100.').locator('.mark[aria-label="read by 400"]').waitFor();
    await line(ann, 'mine 149.').locator('.mark[aria-label="read by 20"]').waitFor();
    assert.deepEqual(ann.faults, []);
  });

  test('what is not kept any more is said where it is missing', async (t) => {
    const { ready, inject } = injector();
    const [ann, bob, path] = await pair(t, 'Gap', { bob: { ready } });
    await say(ann, 'old');
    await heard(bob, 'old');
    await say(ann, 'new');
    await heard(bob, 'new');
    await speaks(bob, 'ws');
    const topic = topicOf(path);
    const { messages } = await (await fetch(`${server.url}/v1/messages?topic=${topic}&before=latest`, { headers: { Authorization: `Bearer ${await tokenOf(ann)}` } })).json();
    inject({ gap: { topic, after: messages[0].cursor, earliest: messages[1].cursor } });
    await bob.locator('.between.gap').filter({ hasText: 'is not kept any more' }).waitFor();
    assert.equal(await bob.locator('.between.gap + .line .text').textContent(), 'new');
    await picture(bob, 'gap');
  });

  test('a room that isn’t there is told in words', async (t) => {
    const ann = await person(t, 'Ann', { path: '#/room/nowhere' });
    await ann.locator('.door-in .bad').filter({ hasText: /nowhere|no such room/ }).waitFor();
    await picture(ann, 'nowhere');
  });

  test('markup, marks that turn the text around and piles of marks are text, and stay in their line', async (t) => {
    const [ann, bob] = await pair(t, '<img src=x onerror=document.title=1>');
    const hostile = ['<script>document.title=2</script>', '\u202Eevil\u202E txt', `zalgo${'\u0301'.repeat(1500)}`, 'javascript:alert(1) https://example.com/<b>'];
    for (const text of hostile) await say(bob, text);
    await heard(ann, 'javascript:alert(1)');
    assert.deepEqual(await texts(ann), hostile);
    assert.equal(await ann.locator('.chat img, .chat script').count(), 0);
    assert.deepEqual(await ann.locator('.line a').evaluateAll((links) => links.map(({ href }) => href)), ['https://example.com/']);
    const zalgo = await line(ann, 'zalgo').locator('.body').evaluate((it) => [it.clientHeight < 400, getComputedStyle(it).overflowY]);
    assert.deepEqual(zalgo, [true, 'clip']);
    assert.doesNotMatch(await ann.title(), /^[12]$/);
    await picture(ann, 'hostile');
    assert.deepEqual(ann.faults, []);
  });

  test('who imitates another’s name is told apart by the user’s id', async (t) => {
    const [ann, , path] = await pair(t, 'Names');
    const eve = await person(t, 'Αnn', { path }); // a Greek letter
    await eve.getByRole('button', { name: 'Join' }).click();
    await eve.locator('#composer').waitFor();
    await say(eve, 'it is me');
    await heard(ann, 'it is me');
    assert.match(await line(ann, 'it is me').locator('.who small').textContent(), /^guest-\w+$/);
  });

  test('without storage it works, and keeps nothing', async (t) => {
    const ready = (page) => page.addInitScript(() => {
      for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(globalThis, name, { get() { throw new DOMException('no', 'SecurityError'); } });
    });
    const ann = await person(t, 'Ann', { ready });
    await room(ann, 'Nothing kept');
    await say(ann, 'said');
    await line(ann, 'said').locator(KEPT).waitFor();
  });

  test('a guest that the server doesn’t take is told why', async (t) => {
    const closed = await Server.start({ EVERYWIRE_AUTH_GUESTS: 'false' });
    t.after(() => closed.stop());
    const page = await browser.window(`${closed.url}/chat`);
    t.after(() => page.context().close());
    await page.locator('#guest').fill('Ann');
    await page.locator('#guest').press('Enter');
    await page.locator('[role=status]').filter({ hasText: 'no guests are taken here' }).waitFor();
    assert.equal(await page.locator('#guest').inputValue(), 'Ann');
    await page.getByRole('button', { name: 'I have a token' }).click();
    await page.getByLabel('Token').waitFor();
  });
});
