/** The chat as a page: writing, reading, long rooms, keyboard, phones, languages. */

import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { browser, findings, heard, KEPT, line, pair, person, picture, promise, publish, ready, room, say, server, settled, test, texts, topicOf } from './people.mjs';

describe('writing and reading', () => {
  test('Enter that an input method takes sends nothing; Shift and Enter is a new line', async (t) => {
    const ann = await person(t, 'Ann');
    await room(ann, 'IME');
    const field = ann.locator('#composer');
    await field.fill('ni');
    for (const how of [{ isComposing: true }, { keyCode: 229 }]) {
      await field.evaluate((it, how) => it.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true, ...how })), how);
    }
    assert.equal(await field.inputValue(), 'ni');
    await field.press('Shift+Enter');
    await field.pressSequentially('hao');
    assert.equal(await field.inputValue(), 'ni\nhao');
    await field.press('Enter');
    await line(ann, 'ni').locator(KEPT).waitFor();
    assert.deepEqual(await texts(ann), ['ni\nhao']);
  });

  test('a draft stays with its room, over other rooms and a reload', async (t) => {
    const ann = await person(t, 'Ann');
    const path = await room(ann, 'One');
    await ann.locator('#composer').fill('not yet');
    await room(ann, 'Two');
    assert.equal(await ann.locator('#composer').inputValue(), '');
    await ann.locator('.entry').filter({ hasText: 'One' }).getByText('Draft: not yet').waitFor();
    await ann.reload();
    await ann.goto(`${server.url}/chat${path}`);
    await ann.locator('#talk-title').filter({ hasText: 'One' }).waitFor();
    assert.equal(await ann.locator('#composer').inputValue(), 'not yet');
  });

  /** The position of a line's text in the window. */
  const placeOf = (page, text) => line(page, text).first().locator('.text').evaluate((it) => Math.round(it.getBoundingClientRect().top));

  /** A line's text is where it was; rows end between pixels, the list scrolls by whole ones. */
  const stands = async (page, text, before) => {
    const after = await placeOf(page, text);
    assert.ok(Math.abs(after - before) <= 1, `${after} !== ${before}`);
  };

  /** Scrolls on, as often as more comes, until a line stands in the page. */
  const scrollTo = (page, end, text) => page.waitForFunction(([end, text]) => {
    const list = document.querySelector('.lines');
    if ([...list.querySelectorAll('.text')].some((it) => it.textContent === text)) return true;
    list.scrollTop = end === 'top' ? 0 : list.scrollHeight;
    return false;
  }, [end, text]);

  test('what one reads stays where it is: new lines come below, old ones above; the end is a button away', async (t) => {
    const [ann, bob, path] = await pair(t, 'Scroll');
    await publish(ann, topicOf(path), Array.from({ length: 400 }, (_, n) => `line ${n}.`));
    await bob.reload();
    await heard(bob, 'line 399.');
    const list = bob.locator('.lines');
    await scrollTo(bob, 'top', 'line 250.');
    await line(bob, 'line 250.').scrollIntoViewIfNeeded();
    await settled(bob);
    const before = await placeOf(bob, 'line 250.');
    await publish(ann, topicOf(path), ['below one', 'below two']);
    await bob.locator('.down').filter({ hasText: '2 new' }).waitFor();
    await stands(bob, 'line 250.', before);
    await picture(bob, 'scrolled');
    await bob.locator('.down').click();
    await heard(bob, 'below two');
    await bob.locator('.down').waitFor({ state: 'detached' });
    assert.ok(await list.evaluate((it) => it.scrollHeight - it.clientHeight - it.scrollTop < 50));
    assert.equal(await bob.locator('.entry .count').count(), 0);
  });

  for (const [what, act] of [
    ['another line comes', async (ann, bob) => {
      await say(ann, 'meanwhile');
      await bob.locator('.down').filter({ hasText: '1 new' }).waitFor();
    }],
    ['one scrolls on', (ann, bob) => bob.locator('.lines').evaluate((list) => { list.scrollTop = 400; })],
  ]) {
    test(`what one reads stays where it is, also when ${what} before the lines above it`, async (t) => {
      const [ann, bob, path] = await pair(t, 'Held');
      await publish(ann, topicOf(path), Array.from({ length: 90 }, (_, n) => `line ${n}.`));
      await bob.reload();
      await heard(bob, 'line 89.');
      await ready(bob);
      const [asked, released] = [promise(), promise()];
      await bob.route('**/v1/messages?*before=*', async (route) => {
        asked.resolve();
        await released.done;
        await route.continue();
      });
      await bob.locator('.lines').evaluate((list) => { list.scrollTop = 0; });
      await asked.done;
      await act(ann, bob);
      await settled(bob);
      const before = await placeOf(bob, 'line 60.');
      released.resolve();
      await line(bob, 'line 0.').first().waitFor({ state: 'attached' });
      await settled(bob);
      await stands(bob, 'line 60.', before);
    });
  }

  test('who has read above and comes back to the end is shown what comes', async (t) => {
    const [ann, bob, path] = await pair(t, 'Back');
    await publish(ann, topicOf(path), Array.from({ length: 120 }, (_, n) => `line ${n}.`));
    await bob.reload();
    await heard(bob, 'line 119.');
    await ready(bob);
    await scrollTo(bob, 'top', 'line 0.');
    await bob.getByText('This is the beginning.').waitFor();
    await bob.locator('.lines').evaluate((list) => { list.scrollTop = list.scrollHeight; });
    await bob.locator('.down').waitFor({ state: 'detached' });
    await say(ann, 'welcome back');
    await heard(bob, 'welcome back');
    await settled(bob);
    assert.ok(await bob.locator('.lines').evaluate((it) => it.scrollHeight - it.clientHeight - it.scrollTop < 50));
  });

  test('history comes until its beginning, and no more than 300 lines stand in the page', async (t) => {
    const [ann, bob, path] = await pair(t, 'History');
    await publish(ann, topicOf(path), Array.from({ length: 500 }, (_, n) => `line ${n}.`));
    await bob.reload();
    await heard(bob, 'line 499.');
    await bob.evaluate(() => {
      globalThis.most = 0;
      const count = () => { globalThis.most = Math.max(globalThis.most, document.querySelectorAll('.line').length); };
      new MutationObserver(count).observe(document.querySelector('.lines'), { childList: true });
    });
    await scrollTo(bob, 'top', 'line 0.');
    await bob.getByText('This is the beginning.').waitFor();
    await scrollTo(bob, 'end', 'line 499.');
    const most = await bob.evaluate(() => globalThis.most);
    assert.ok(most <= 300, `${most} lines`);
  });

  test('200 messages a second: all come, in order, and the page stays small', async (t) => {
    const [ann, bob, path] = await pair(t, 'Flood');
    await bob.evaluate(() => {
      globalThis.longest = 0;
      new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, duration); }).observe({ entryTypes: ['longtask'] });
    });
    for (let second = 0; second < 3; second += 1) {
      for (let part = 0; part < 10; part += 1) {
        await Promise.all([
          publish(ann, topicOf(path), Array.from({ length: 20 }, (_, n) => `m${second * 200 + part * 20 + n}.`)),
          new Promise((resolve) => { setTimeout(resolve, 100); }),
        ]);
      }
    }
    await heard(bob, 'm599.');
    t.diagnostic(`the longest task took ${await bob.evaluate(() => globalThis.longest)} ms`);
    const shown = await texts(bob);
    assert.deepEqual(shown, Array.from({ length: 600 }, (_, n) => `m${n}.`).slice(-shown.length));
    assert.ok(await bob.locator('.line').count() <= 300);
    assert.ok(await bob.locator('.lines').evaluate((it) => it.scrollHeight - it.clientHeight - it.scrollTop < 50), 'it stays at the end');
  });

  test('what is loaded can be searched, and a hit is shown where it was said', async (t) => {
    const [ann, bob, path] = await pair(t, 'Search');
    await say(ann, 'here');
    await heard(bob, 'here');
    await publish(ann, topicOf(path), ['a needle', ...Array.from({ length: 60 }, (_, n) => `hay ${n}`)]);
    await heard(bob, 'hay 59');
    await bob.getByRole('searchbox').fill('needle');
    await bob.getByText('Messages found here: 1').waitFor();
    await picture(bob, 'search');
    await bob.locator('.entry').filter({ hasText: 'a needle' }).click();
    await bob.waitForFunction(() => document.activeElement?.textContent.includes('a needle'));
  });

  test('the announcer says who and what, and not what was said before', async (t) => {
    // Bob's page learns late how Ann is called.
    let release;
    const hold = new Promise((resolve) => { release = resolve; });
    const slow = (page) => page.route('**/members?*', async (route) => { await hold; await route.continue(); });
    const [ann, bob] = await pair(t, 'Aloud', { bob: { ready: slow } });
    await say(ann, 'hear me');
    await heard(bob, 'hear me');
    const announcer = bob.locator('main > [role=status]');
    assert.equal(await announcer.textContent(), '');
    release();
    await announcer.filter({ hasText: 'Ann: hear me' }).waitFor();
    assert.equal(await announcer.textContent(), 'Ann: hear me');
    await bob.reload();
    await heard(bob, 'hear me');
    assert.equal(await announcer.textContent(), '');
  });
});

describe('the page', () => {
  test('the keyboard alone is enough, from the name to an answer', async (t) => {
    const page = await browser.window(`${server.url}/chat`);
    t.after(() => page.context().close());
    await page.waitForFunction(() => document.activeElement?.id === 'guest');
    await page.keyboard.type('Ann');
    await page.keyboard.press('Enter');
    await page.locator('.chat').waitFor();
    const to = async (id) => {
      for (let turns = 0; await page.evaluate(() => document.activeElement.id) !== id; turns += 1) {
        assert.ok(turns < 150, `Tab leads to #${id}`);
        await page.keyboard.press('Tab');
      }
    };
    await to('make');
    await page.keyboard.type('Keys');
    await page.keyboard.press('Enter');
    await page.locator('#composer').waitFor();
    await to('composer');
    for (const text of ['one', 'two']) {
      await page.keyboard.type(text);
      await page.keyboard.press('Enter');
      await line(page, text).locator(KEPT).waitFor();
    }
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowUp');
    assert.match(await page.evaluate(() => document.activeElement.textContent), /one/);
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.closest('.acts'));
    for (let turns = 0; await page.evaluate(() => document.activeElement.textContent) !== 'Reply'; turns += 1) {
      assert.ok(turns < 10, 'Tab leads to Reply');
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.id === 'composer');
    await page.keyboard.type('an answer');
    await page.keyboard.press('Enter');
    await page.locator('blockquote').filter({ hasText: 'Ann: one' }).waitFor();
    assert.deepEqual(page.faults, []);
  });

  for (const [width, height, locale, colorScheme] of [[320, 640, 'zh-CN', 'dark'], [320, 480, 'en', 'light'], [640, 400, 'en', 'light'], [900, 700, 'en', 'dark'], [1280, 800, 'en', 'light']]) {
    test(`at ${width} × ${height}, ${locale}, ${colorScheme}: nothing overflows, axe finds nothing, in every pane`, async (t) => {
      const page = await browser.window(undefined, { viewport: { width, height }, locale, colorScheme, reducedMotion: 'reduce' });
      t.after(() => page.context().close());
      const look = async (name) => {
        await picture(page, `${name}-${width}-${locale}-${colorScheme}`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, `${name} is too wide`);
        assert.deepEqual(await findings(page), [], name);
      };
      await page.goto(`${server.url}/chat`);
      await page.locator('#guest').waitFor();
      await look('prompt');
      await page.locator('#guest').fill('Ann');
      await page.locator('#guest').press('Enter');
      await page.locator('#make').waitFor();
      await look('list');
      await page.locator('#make').fill(`Room ${width} ${locale}`);
      await page.locator('#make').press('Enter');
      await page.locator('#composer').waitFor();
      await say(page, 'hello, see https://example.com/a/very/long/address/that/does/not/fit/into/a/line/of/a/phone');
      await page.locator('.line[data-id] .mark').waitFor();
      await look('talk');
      await page.locator('.settings summary').click();
      await page.locator('#notify').waitFor();
      const { x, width: wide } = await page.locator('.menu').boundingBox();
      assert.ok(x >= 0 && x + wide <= width, `the settings stand from ${x} to ${x + wide}`);
      await look('settings');
      await page.keyboard.press('Escape');
      await page.locator('.menu').waitFor({ state: 'detached' });
      await page.evaluate(() => { location.hash += '/people'; });
      await page.locator('.qr').waitFor();
      await look('people');
      await page.goBack();
      await page.locator('#composer').waitFor();
      assert.deepEqual(page.faults, []);
    });
  }

  test('on a phone what is touched is large enough', async (t) => {
    const page = await person(t, 'Ann', { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    await room(page, 'Touch');
    await say(page, 'hello');
    await line(page, 'hello').waitFor();
    const small = await page.locator('.talk button:visible, .talk select:visible, .talk header a:visible, .talk textarea').evaluateAll((all) => all
      .filter((it) => it.getBoundingClientRect().height < 44).map((it) => it.outerHTML));
    assert.deepEqual(small, []);
  });

  test('it can be installed: its manifest and icons are there', async () => {
    const html = await (await fetch(`${server.url}/chat`)).text();
    const [, href] = /rel="manifest" href="([^"]+)"/.exec(html);
    const address = new URL(href, `${server.url}/chat`);
    const response = await fetch(address);
    assert.equal(response.headers.get('content-type'), 'application/manifest+json');
    const manifest = await response.json();
    assert.equal(new URL(manifest.start_url, address).pathname, '/chat');
    for (const { src, type } of manifest.icons) {
      const icon = await fetch(new URL(src, address));
      assert.deepEqual([icon.status, icon.headers.get('content-type')], [200, type]);
    }
  });
});
