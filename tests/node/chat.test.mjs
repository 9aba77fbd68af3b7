/** The chat in a real Chromium: people who talk, in windows on different wires and devices. */

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe } from 'node:test';

import mqtt from 'mqtt';

import { browser, findings, heard, KEPT, line, pair, person, picture, promise, publish, ready, room, say, server, test, texts, tokenOf, topicOf, unfold, withhold } from './people.mjs';
import { Server } from './support.mjs';

describe('talking', () => {
  test('two people on different wires hear each other, while each changes theirs, and nothing is lost or doubled', async (t) => {
    const [ann, bob] = await pair(t, 'Wires');
    const said = [];
    for (const [round, wire] of ['sse', 'longpoll', 'poll', 'ws', 'auto'].entries()) {
      await bob.locator('#wire').selectOption(wire);
      for (const [page, who] of [[ann, 'ann'], [bob, 'bob'], [ann, 'ann again']]) {
        said.push(`${who} ${round}`);
        await say(page, said.at(-1));
        await heard(page === ann ? bob : ann, said.at(-1));
      }
    }
    await line(ann, said.at(-1)).locator(KEPT).waitFor();
    await picture(ann, 'two');
    assert.deepEqual([await texts(ann), await texts(bob)], [said, said]);
    assert.deepEqual([ann.faults, bob.faults], [[], []]);
  });

  test('a terminal and a device over MQTT take part', async (t) => {
    const [ann, , path] = await pair(t, 'Devices');
    const token = await tokenOf(ann);
    await publish(ann, topicOf(path), ['from a terminal']);
    const device = await mqtt.connectAsync(`mqtt://${server.mqtt}`, { protocolVersion: 5, username: 'token', password: token });
    t.after(() => device.endAsync(true));
    const got = new Promise((resolve) => { device.on('message', (topic, body) => resolve([topic, body.toString()])); });
    await device.subscribeAsync(topicOf(path));
    await device.publishAsync(topicOf(path), 'from a device', { qos: 1 });
    await heard(ann, 'from a terminal');
    await heard(ann, 'from a device');
    assert.deepEqual(await got, [topicOf(path), 'from a device']);
  });

  test('one’s own line waits, then is kept; the list shows who said what last', async (t) => {
    const [ann, bob] = await pair(t, 'Marks');
    const go = await withhold(ann);
    await say(ann, 'on its way');
    await line(ann, 'on its way').locator('.mark[aria-label=waiting]').waitFor();
    await picture(ann, 'waiting');
    go.resolve();
    await line(ann, 'on its way').locator(KEPT).waitFor();
    await bob.locator('.entry .last').filter({ hasText: 'Ann: on its way' }).waitFor();
    assert.deepEqual(await texts(ann), ['on its way']);
  });

  test('one’s own line is never out of sight, also when it comes before the answer to its publish', async (t) => {
    const ann = await person(t, 'Ann');
    await room(ann, 'In sight');
    const [go, answered] = [promise(), promise()];
    t.after(() => answered.resolve());
    await ann.route('**/v1/messages?*', async (route) => {
      if (route.request().method() !== 'POST') return route.continue();
      await go.done;
      const response = await route.fetch();
      await answered.done;
      return route.fulfill({ response }).catch(() => {});
    });
    await say(ann, 'always there');
    await line(ann, 'always there').locator('.mark[aria-label=waiting]').waitFor();
    await ann.evaluate(() => {
      const lines = document.querySelector('.lines');
      globalThis.missed = 0;
      new MutationObserver(() => { globalThis.missed += lines.textContent.includes('always there') ? 0 : 1; }).observe(lines, { childList: true, subtree: true });
    });
    go.resolve();
    await line(ann, 'always there').locator(KEPT).waitFor();
    assert.equal(await line(ann, 'always there').count(), 1);
    assert.equal(await ann.evaluate(() => globalThis.missed), 0);
  });

  test('an answer quotes what it answers, for every client in plain text', async (t) => {
    const [ann, bob] = await pair(t, 'Answers');
    await say(ann, 'shall we?');
    await heard(bob, 'shall we?');
    await line(bob, 'shall we?').hover();
    await line(bob, 'shall we?').getByRole('button', { name: 'What to do with the message of Ann' }).click();
    await picture(bob, 'acts');
    await bob.getByRole('button', { name: 'Reply' }).click();
    await bob.locator('.purpose').filter({ hasText: 'Reply to Ann: shall we?' }).waitFor();
    await say(bob, 'yes');
    await ann.locator('blockquote').filter({ hasText: 'Ann: shall we?' }).waitFor();
    assert.equal(await ann.locator('.line:has(blockquote) .text').textContent(), 'yes');
    await ann.locator('blockquote a').click();
    await ann.waitForFunction(() => document.activeElement?.matches('.line') && document.activeElement.textContent.includes('shall we?'));
  });

  test('an answer leads to what it answers, as it is now, and however far back it is', async (t) => {
    const [ann, bob, path] = await pair(t, 'Far back');
    await say(ann, 'far back');
    await heard(bob, 'far back');
    await publish(ann, topicOf(path), Array.from({ length: 120 }, (_, n) => `hay ${n}`));
    await heard(bob, 'hay 119');
    const { messages: [first] } = await (await fetch(`${server.url}/v1/messages?topic=${topicOf(path)}`, { headers: { Authorization: `Bearer ${await tokenOf(ann)}` } })).json();
    await fetch(`${server.url}/v1/messages?topic=${topicOf(path)}&event=chat&ref=${first.id}`, {
      method: 'POST', headers: { Authorization: `Bearer ${await tokenOf(bob)}`, 'Content-Type': 'text/plain' }, body: '> Ann: far back\nfound',
    });
    await heard(ann, 'found');
    await ann.reload();
    await heard(ann, 'found');
    assert.equal(await line(ann, 'far back').count(), 1, 'only the answer is loaded');
    await ann.locator('blockquote a').click();
    await ann.waitForFunction(() => document.activeElement?.querySelector('.text')?.textContent === 'far back');
    await ann.keyboard.press('Enter');
    await ann.getByRole('button', { name: 'Recall' }).click();
    await ann.getByText('Ann recalled a message.').waitFor();
    await ann.locator('blockquote a').filter({ hasText: 'Ann: recalled' }).waitFor();
    assert.deepEqual(ann.faults, []);
  });

  test('what happened to one’s own line is told in words, to operators for each device', async (t) => {
    const [ann, bob] = await pair(t, 'Fate');
    await say(ann, 'where is it?');
    await heard(bob, 'where is it?');
    await unfold(ann, 'where is it?');
    await ann.getByRole('button', { name: 'What happened to it?' }).click();
    await ann.locator('.fate').filter({ hasText: /The server took it at .* operators only/ }).waitFor();
    await unfold(bob, 'where is it?');
    await bob.locator('.acts').waitFor();
    assert.equal(await bob.getByRole('button', { name: 'What happened to it?' }).count(), 0, 'another’s line is theirs to ask for');

    const SECRET = 's'.repeat(32);
    const guarded = await Server.start({ EVERYWIRE_AUTH_SECRET: SECRET });
    t.after(() => guarded.stop());
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const said = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub: 'root', admin: true, exp: Math.floor(Date.now() / 1000) + 600 })}`;
    const page = await browser.window(`${guarded.url}/chat#token=${said}.${createHmac('sha256', SECRET).update(said).digest('base64url')}`);
    t.after(() => page.context().close());
    await page.locator('.chat').waitFor();
    await room(page, 'Operators');
    await say(page, 'seen by all?');
    await line(page, 'seen by all?').locator(KEPT).waitFor();
    await unfold(page, 'seen by all?');
    await page.getByRole('button', { name: 'What happened to it?' }).click();
    await page.locator('.fate').filter({ hasText: /on its disk/ }).locator('li').filter({ hasText: /WebSocket root: (written|acknowledged)/ }).waitFor();
    await picture(page, 'fate');
    assert.deepEqual(await findings(page), []);
  });

  test('what others said while one wasn’t there is counted, and a line says where it begins; read stays read', async (t) => {
    const [ann, bob, path] = await pair(t, 'Unread');
    await say(ann, 'before');
    await heard(bob, 'before');
    await room(bob, 'Elsewhere');
    for (const text of ['one', 'two', '@Bob three']) await say(ann, text);
    const entry = bob.locator('.entry').filter({ hasText: 'Unread' });
    await entry.locator('.count.named').filter({ hasText: '@ 3' }).waitFor();
    assert.match(await entry.textContent(), /3 unread, you are named/);
    await bob.waitForFunction(() => document.title.startsWith('(3)'));
    await entry.click();
    await heard(bob, 'three');
    assert.equal(await bob.locator('.between.new + .line .text').textContent(), 'one');
    await picture(bob, 'unread');
    await entry.locator('.count').waitFor({ state: 'detached' });
    await bob.reload();
    await heard(bob, 'three');
    assert.equal(await bob.locator('.entry .count').count(), 0);
    assert.equal(await bob.locator('.between.new').count(), 0);
    assert.ok(path);
  });
});

describe('changing what was said', () => {
  const act = async (page, text, name) => {
    await unfold(page, text);
    await line(page, text).getByRole('button', { name }).click();
  };

  test('the last line is edited with the arrow, for everybody, and still after a reload', async (t) => {
    const [ann, bob] = await pair(t, 'Edits');
    await say(ann, 'helo');
    await heard(bob, 'helo');
    await line(ann, 'helo').locator(KEPT).waitFor();
    await ann.locator('#composer').press('ArrowUp');
    await ann.locator('.purpose').filter({ hasText: 'Edit: helo' }).waitFor();
    assert.equal(await ann.locator('#composer').inputValue(), 'helo');
    await say(ann, 'hello');
    for (const page of [ann, bob]) await line(page, 'hello').locator('.edited').waitFor();
    await bob.reload();
    await line(bob, 'hello').locator('.edited').waitFor();
    assert.deepEqual([await texts(ann), await texts(bob)], [['hello'], ['hello']]);
    assert.equal(await line(bob, 'hello').locator('.open').count(), 1);
    await unfold(bob, 'hello');
    assert.equal(await bob.locator('.acts').getByRole('button', { name: 'Edit' }).count(), 0, 'another’s line is not mine to edit');
    await ann.locator('#composer').press('ArrowUp');
    await ann.locator('#composer').press('Escape');
    assert.equal(await ann.locator('#composer').inputValue(), '');
    assert.deepEqual([ann.faults, bob.faults], [[], []]);
  });

  test('what is recalled is gone everywhere, and isn’t counted', async (t) => {
    const [ann, bob, path] = await pair(t, 'Recalls');
    await say(ann, 'a secret');
    await heard(bob, 'a secret');
    await room(bob, 'Away');
    await say(ann, 'another');
    await bob.locator('.entry').filter({ hasText: 'Recalls' }).locator('.count').waitFor();
    for (const text of ['a secret', 'another']) await act(ann, text, 'Recall');
    await ann.getByText('Ann recalled a message.').nth(1).waitFor();
    await bob.locator('.entry').filter({ hasText: 'Recalls' }).locator('.count').waitFor({ state: 'detached' });
    await bob.goto(`${server.url}/chat${path}`);
    await bob.getByText('Ann recalled a message.').nth(1).waitFor();
    await picture(bob, 'recalled');
    await bob.reload();
    await bob.getByText('Ann recalled a message.').nth(1).waitFor();
    assert.deepEqual([await texts(ann), await texts(bob)], [[], []]);
  });

  test('a reaction is everybody’s to see, and one’s own to take back', async (t) => {
    const [ann, bob] = await pair(t, 'Reactions');
    await say(ann, 'good news');
    await heard(bob, 'good news');
    await act(bob, 'good news', 'React with 👍');
    const button = (page) => line(page, 'good news').locator('.reactions button');
    await button(ann).filter({ hasText: '👍 1' }).waitFor();
    await line(ann, 'good news').getByRole('button', { name: '👍 from Bob' }).waitFor();
    await button(ann).click();
    await button(bob).filter({ hasText: '👍 2' }).waitFor();
    await picture(bob, 'reactions');
    await bob.reload();
    await button(bob).filter({ hasText: '👍 2' }).waitFor();
    assert.equal(await button(bob).getAttribute('aria-pressed'), 'true');
    await button(bob).click();
    await button(ann).filter({ hasText: '👍 1' }).waitFor();
  });

  test('away while others edit, recall and react: then it is right', async (t) => {
    const [ann, bob] = await pair(t, 'Away');
    for (const text of ['first', 'second', 'third']) await say(ann, text);
    await heard(bob, 'third');
    await line(ann, 'third').locator(KEPT).waitFor();
    await bob.context().setOffline(true);
    await bob.locator('.banner').filter({ hasText: 'No connection' }).waitFor();
    await ann.locator('#composer').press('ArrowUp');
    await say(ann, 'third, changed');
    await line(ann, 'third, changed').locator('.edited').waitFor();
    await act(ann, 'second', 'Recall');
    await ann.getByText('Ann recalled a message.').waitFor();
    await act(ann, 'first', 'React with 🎉');
    await line(ann, 'first').locator('.reactions').waitFor();
    await say(ann, 'fourth');
    await line(ann, 'fourth').locator(KEPT).waitFor();
    await bob.context().setOffline(false);
    await heard(bob, 'fourth');
    for (const page of [ann, bob]) {
      assert.deepEqual(await texts(page), ['first', 'third, changed', 'fourth']);
      assert.equal(await page.getByText('Ann recalled a message.').count(), 1);
      assert.match(await line(page, 'first').locator('.reactions').textContent(), /🎉 1/);
    }
    assert.equal(await bob.locator('.between.gap').count(), 0);
  });

  test('a change that the server refuses is told in its words, and the text is kept', async (t) => {
    const [ann] = await pair(t, 'Refused');
    await say(ann, 'too late');
    await line(ann, 'too late').locator(KEPT).waitFor();
    await ann.route('**/v1/messages/0*', (route) => route.fulfill({ status: 403, contentType: 'application/problem+json', json: { detail: 'it is too late to edit this' } }));
    await ann.locator('#composer').press('ArrowUp');
    await ann.locator('.purpose').waitFor();
    await say(ann, 'in time?');
    await ann.locator('.composer .bad').filter({ hasText: 'it is too late' }).waitFor();
    assert.equal(await ann.locator('#composer').inputValue(), 'in time?');
  });
});

describe('two alone, and more devices', () => {
  test('two write to each other alone, both see it, nobody else, and it stands there after a reload', async (t) => {
    const [ann, bob] = await pair(t, 'Alone');
    await say(bob, 'hello all');
    await heard(ann, 'hello all');
    await ann.getByRole('link', { name: 'Write to Bob alone' }).click();
    await ann.locator('#talk-title').filter({ hasText: 'Bob' }).waitFor();
    await say(ann, 'just you');
    const entry = bob.locator('.entry').filter({ hasText: 'just you' });
    await entry.locator('.count').filter({ hasText: '1' }).waitFor();
    await entry.click();
    await heard(bob, 'just you');
    await say(bob, 'and you');
    await heard(ann, 'and you');
    await picture(bob, 'direct');
    await ann.locator('#composer').press('ArrowUp');
    await say(ann, 'only you');
    await line(bob, 'only you').locator('.edited').waitFor();
    for (const page of [ann, bob]) await page.reload();
    for (const page of [ann, bob]) {
      await heard(page, 'and you');
      assert.deepEqual(await texts(page), ['only you', 'and you']);
      assert.deepEqual(page.faults, []);
    }
  });

  test('what is pinned stands first, what is archived apart, what is muted is not counted in the title; on every device', async (t) => {
    const [ann, bob] = await pair(t, 'Older');
    await room(bob, 'Newer');
    const entry = (page) => page.locator('.entry').filter({ hasText: 'Older' });
    const settings = async (page, label, isOn = true) => {
      await page.locator('.settings summary').click();
      await page.locator('.menu').getByLabel(label).setChecked(isOn);
      await page.waitForFunction(([label, isOn]) => [...document.querySelectorAll('.menu label')].find((it) => it.textContent.includes(label)).querySelector('input').checked === isOn, [label, isOn]);
      await page.keyboard.press('Escape');
      await page.locator('.menu').waitFor({ state: 'hidden' });
    };
    await entry(bob).click();
    await bob.locator('#talk-title').filter({ hasText: 'Older' }).waitFor();
    await settings(bob, 'Keep it on top');
    await bob.locator('.list ul').first().locator('li').first().filter({ hasText: 'Older' }).getByRole('img', { name: 'on top' }).waitFor();
    await settings(bob, 'Mute it');
    await bob.locator('.settings summary').click();
    await picture(bob, 'settings');
    assert.deepEqual(await findings(bob), []);
    await bob.locator('.entry').filter({ hasText: 'Newer' }).click();
    await bob.locator('#talk-title').filter({ hasText: 'Newer' }).waitFor();
    await say(ann, 'softly');
    await entry(bob).locator('.count.quiet').filter({ hasText: '1' }).waitFor();
    assert.doesNotMatch(await bob.title(), /^\(/);
    const phone = await browser.window(`${server.url}/chat#token=${await tokenOf(bob)}`);
    t.after(() => phone.context().close());
    await entry(phone).getByRole('img', { name: 'muted' }).waitFor();
    await entry(phone).click();
    await heard(phone, 'softly');
    await settings(phone, 'Archive it');
    await phone.getByText('Archived · 1').waitFor();
    await bob.reload();
    await bob.getByText('Archived · 1').waitFor();
    assert.equal(await entry(bob).isVisible(), false);
    assert.deepEqual([bob.faults, phone.faults], [[], []]);
  });

  test('the title counts what one wants it to count', async (t) => {
    const [ann, bob] = await pair(t, 'Named');
    await bob.locator('.settings summary').click();
    const wanted = bob.waitForResponse((response) => response.request().method() === 'PATCH' && response.ok());
    await bob.getByLabel('Count in the tab’s title').selectOption('mentions');
    await wanted;
    await room(bob, 'Elsewhere');
    for (const text of ['one', '@Bob two', 'three']) await say(ann, text);
    await bob.locator('.entry').filter({ hasText: 'Named' }).locator('.count').filter({ hasText: '3' }).waitFor();
    await bob.waitForFunction(() => document.title.startsWith('(1)'));
  });

  test('nothing is taken of whom one has blocked, and they are told', async (t) => {
    const [ann, bob] = await pair(t, 'Blocked');
    await ann.getByRole('link', { name: 'Write to Bob alone' }).click();
    await ann.locator('#talk-title').filter({ hasText: 'Bob' }).waitFor();
    await say(ann, 'hello');
    const entry = bob.locator('.entry').filter({ hasText: 'hello' });
    await entry.click();
    await heard(bob, 'hello');
    await ann.locator('.settings summary').click();
    await ann.getByRole('button', { name: 'Block Bob' }).click();
    await ann.getByText('You have blocked Bob').waitFor();
    await ann.locator('#composer').waitFor({ state: 'detached' });
    await say(bob, 'do you hear?');
    await line(bob, 'do you hear?').locator('.bad').filter({ hasText: /Not sent: .*takes nothing from you/ }).waitFor();
    await picture(ann, 'blocked');
    await ann.getByRole('button', { name: 'Unblock' }).last().click();
    await ann.locator('#composer').waitFor();
    await bob.getByRole('button', { name: 'Write it again' }).click();
    await bob.locator('#composer').press('Enter');
    await heard(ann, 'do you hear?');
  });

  test('a room with a password asks for it, and tells who has another one', async (t) => {
    const ann = await person(t, 'Ann');
    const path = await room(ann, 'Sesame');
    // The server's part is tested where it is; a password takes a debug build long to look at.
    const locked = async (page) => {
      await page.route(`**/v1/rooms/${path.split('/')[2]}`, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...await response.json(), join: 'password' } });
      });
      await page.route('**/join', (route) => (route.request().postDataJSON().password === 'open up' ? route.continue()
        : route.fulfill({ status: 403, contentType: 'application/problem+json', json: { detail: 'this room is for those who know its password' } })));
    };
    const bob = await person(t, 'Bob', { path, ready: locked });
    await bob.getByLabel('The room’s password').fill('shut');
    await bob.getByRole('button', { name: 'Join' }).click();
    await bob.locator('.door-in .bad').filter({ hasText: /password/ }).waitFor();
    assert.deepEqual(await findings(bob), []);
    await picture(bob, 'password');
    await bob.getByLabel('The room’s password').fill('open up');
    await bob.getByLabel('The room’s password').press('Enter');
    await ready(bob);
    await say(ann, 'welcome');
    await heard(bob, 'welcome');
  });

  test('in a room that hides its users one is known by the nick, and only admins see who is who', async (t) => {
    const ann = await person(t, 'Ann');
    const token = await tokenOf(ann);
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
    const founded = await fetch(`${server.url}/v1/rooms/masks`, { method: 'PUT', headers, body: JSON.stringify({ title: 'Masks', see: 'admins' }) });
    assert.equal(founded.status, 201);
    const [bob, cid] = [await person(t, 'Bob', { path: '#/room/masks' }), await person(t, 'Cid', { path: '#/room/masks' })];
    const isUser = async (page) => JSON.parse(atob((await tokenOf(page)).split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).sub;
    const users = await Promise.all([isUser(bob), isUser(cid), isUser(ann)]);
    for (const page of [bob, cid]) {
      await page.getByRole('button', { name: 'Join' }).click();
      await ready(page);
    }
    await say(bob, 'who am I?');
    await line(bob, 'who am I?').locator(KEPT).waitFor();
    assert.equal(await line(bob, 'who am I?').evaluate((row) => row.classList.contains('mine')), true, 'one’s own line is one’s own');
    await cid.locator('.line').filter({ hasText: 'who am I?' }).locator('.who b').filter({ hasText: /^Bob$/ }).waitFor();
    await cid.getByText('In this room only admins see who is who.').waitFor();
    await cid.locator('.person').filter({ hasText: 'Bob' }).waitFor();
    await unfold(bob, 'who am I?');
    await bob.getByRole('button', { name: 'React with 👍' }).click();
    await line(cid, 'who am I?').locator('.reactions button').and(cid.getByRole('button', { name: /Bob/ })).waitFor();
    await bob.locator('.reactions button[aria-pressed=true]').waitFor();
    const told = await cid.content();
    for (const user of [users[0], users[2]]) assert.ok(!told.includes(user), `${user} is nowhere in the page`);
    assert.equal(await cid.getByRole('link', { name: /^Write to/ }).count(), 0);
    await ann.goto(`${server.url}/chat#/room/masks`);
    await ann.locator('.person').filter({ hasText: 'Bob' }).getByText(users[0]).waitFor();
    await picture(cid, 'hidden');
    assert.deepEqual([ann.faults, bob.faults, cid.faults], [[], [], []]);
  });

  test('an invitation stands in the list, and leads in', async (t) => {
    const [ann, bob] = await pair(t, 'Inviting');
    await say(bob, 'here');
    await heard(ann, 'here');
    const user = (await line(ann, 'here').locator('.who small').textContent()).trim();
    await room(ann, 'Second');
    await ann.getByLabel('Invite a user').fill(user);
    await ann.getByRole('button', { name: 'Invite', exact: true }).click();
    await ann.getByText(`Invited: ${user}.`).waitFor();
    await bob.getByRole('heading', { name: 'Invitations' }).waitFor();
    await bob.locator('.entry').filter({ hasText: 'Second' }).first().click();
    await bob.getByRole('button', { name: 'Join' }).click();
    await bob.locator('#composer').waitFor();
    await bob.getByRole('heading', { name: 'Invitations' }).waitFor({ state: 'detached' });
  });

  test('what was read on one device is read on another, and a mark doesn’t go back', async (t) => {
    const [ann, bob, path] = await pair(t, 'Devices read');
    const token = await tokenOf(bob);
    await room(bob, 'Elsewhere');
    for (const text of ['one', 'two', 'three']) await say(ann, text);
    const phone = await browser.window(`${server.url}/chat#token=${token}`);
    t.after(() => phone.context().close());
    const entry = (page) => page.locator('.entry').filter({ hasText: 'Devices read' });
    await entry(phone).locator('.count').filter({ hasText: '3' }).waitFor();
    await entry(bob).locator('.count').filter({ hasText: '3' }).waitFor();
    const marked = bob.waitForResponse((response) => response.url().includes('/read') && response.ok());
    await entry(bob).click();
    const { unread, read } = await (await marked).json();
    assert.equal(unread, 0);
    await phone.reload();
    await entry(phone).waitFor();
    await entry(phone).locator('.last').filter({ hasText: 'three' }).waitFor();
    await entry(phone).locator('.count').waitFor({ state: 'detached' });
    const { messages } = await (await fetch(`${server.url}/v1/messages?topic=${topicOf(path)}&before=latest`, { headers: { Authorization: `Bearer ${token}` } })).json();
    const back = await fetch(`${server.url}/v1/conversations/${encodeURIComponent(topicOf(path))}/read`, {
      method: 'PUT', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: JSON.stringify({ cursor: messages[0].cursor }),
    });
    assert.equal((await back.json()).read, read, 'an older cursor answers with the mark that holds');
  });
});
