/** The chat: conversations on the left, lines in the middle, members on the right. */

import { Composer } from './chat/composer.js';
import { Lines } from './chat/lines.js';
import { List } from './chat/list.js';
import { address, addressOf, announced, begin, can, client, exchange, isReady, known, line, nickOf, onNews, open, refresh, rooms, stir, talks, trouble, waiting } from './chat/model.js';
import { presenceOf } from './chat/dot.js';
import { hour } from './chat/words.js';
import { lazy, number, reasonOf, show, speaks, t, token } from './shared.js';
import { effect, html, signal, useRef, useState } from './vendor/ui.js';
import english from './i18n/en/chat.js';

await speaks(english, () => import('./i18n/zh/chat.js'));

const People = lazy(() => import('./chat/people.js').then((module) => module.People), 'pane people');
const Prompt = lazy(() => import('./chat/door.js').then((module) => module.Prompt));
const Door = lazy(() => import('./chat/door.js').then((module) => module.Door), 'pane talk');
const Settings = lazy(() => import('./chat/settings.js').then((module) => module.Settings));

/** The wires of the menu. */
const WIRES = ['ws', 'sse', 'longpoll', 'poll'];
const LEARN_MS = 3000;
const wish = signal('auto');
const switching = signal({ text: '', isBad: false });

/** @param {string} wire */
async function use(wire) {
  wish.value = wire;
  switching.value = { text: t('chat.switching', { wire: wire === 'auto' ? t('chat.auto') : t(`wire.${wire}`) }), isBad: false };
  try {
    await client?.use(/** @type {import('./sdk/types.js').Wire | 'auto'} */ (wire));
    switching.value = { text: '', isBad: false };
  } catch (error) {
    wish.value = 'auto';
    switching.value = { text: t('chat.notSwitched', { reason: reasonOf(error) }), isBad: true };
  }
}

function Wire() {
  const { wire, state } = line.value;
  const now = state === 'open' && wire ? t(`wire.${wire}`) : t(`state.${state}`, { reason: line.value.reason ?? '' });
  return html`
    <span class="wire" data-wire=${wire}>
      <label class="unseen" for="wire">${t('chat.wire')}</label>
      <select id="wire" value=${wish.value} title=${now} onChange=${(/** @type {any} */ event) => use(event.target.value)}>
        <option value="auto" selected=${wish.value === 'auto'}>${state === 'open' && wire ? t('chat.wireNow', { wire: t(`wire.${wire}`) }) : t('chat.auto')}</option>
        ${WIRES.map((name) => html`<option key=${name} value=${name} selected=${wish.value === name}>${t(`wire.${name}`)} · ${t(`chat.delay.${name}`)}</option>`)}
      </select>
    </span>`;
}

/** The settings of a conversation, behind a button. @param {{ talk: import('./chat/talk.js').Talk }} props */
function Menu({ talk }) {
  const menu = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  const [isOpen, setOpen] = useState(false);
  const name = t('chat.settings', { title: talk.title });
  const press = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== 'Escape' || !isOpen) return;
    setOpen(false);
    menu.current?.querySelector('summary')?.focus();
  };
  const leave = (/** @type {any} */ event) => { if (event.relatedTarget && !menu.current?.contains(event.relatedTarget)) setOpen(false); };
  return html`
    <details class="settings" ref=${menu} open=${isOpen} onToggle=${() => setOpen(/** @type {any} */ (menu.current).open)} onKeyDown=${press} onFocusOut=${leave}>
      <summary aria-label=${name} title=${name}>⋯</summary>
      ${isOpen && html`<div class="menu" role="group" aria-label=${name}><${Settings} talk=${talk} /></div>`}
    </details>`;
}

/** The state of the connection, if it isn't well. */
function Banner() {
  const { state, since, reason = '' } = line.value;
  const isOff = state === 'waiting' || state === 'refused';
  const words = [];
  if (isOff) words.push(t('chat.offline', { time: hour(since), reason }));
  if (waiting.value.count > 0 && (isOff || waiting.value.reason)) words.push(t('chat.willBeSent', { count: number(waiting.value.count) }));
  if (!isOff && waiting.value.reason) words.push(waiting.value.reason);
  if (trouble.value) words.push(trouble.value);
  if (switching.value.text) words.push(switching.value.text);
  const isBad = isOff || waiting.value.reason || trouble.value || switching.value.isBad;
  return html`<p class=${`banner status ${isBad ? 'bad' : ''}`} role="status">${words.join(' ')}</p>`;
}

/** @param {{ talk: import('./chat/talk.js').Talk }} props */
function Typing({ talk }) {
  const who = [...talk.typing.value.keys()].map((user) => nickOf(talk, user));
  const words = who.length === 0 ? '' : who.length > 3 ? t('chat.typing.many') : t('chat.typing', { who: who.join(', ') });
  return html`<p class="typing hint" aria-hidden="true">${words}</p>`;
}

/** @param {{ talk: import('./chat/talk.js').Talk }} props */
function Conversation({ talk }) {
  const room = talk.room.value;
  const about = talk.kind === 'user' ? presenceOf(talk.name) : room.subject || room.about;
  return html`
    <section class="pane talk" aria-labelledby="talk-title">
      <header>
        <a class="back" href="#/">${t('chat.back')}</a>
        <div class="grow"><h2 id="talk-title" dir="auto">${talk.title}</h2>${about && html`<p class="hint" dir="auto">${about}</p>`}</div>
        <${Wire} />
        ${can.value.conversations && html`<${Menu} key=${talk.conversation} talk=${talk} />`}
        ${talk.kind === 'room' && html`<a class="people-link" href=${addressOf(talk, 'people')}>${t('chat.people')}${room.members ? ` · ${number(room.members)}` : ''}</a>`}
      </header>
      <${Banner} />
      <${Lines} key=${talk.conversation} talk=${talk} />
      <${Typing} talk=${talk} />
      <${Composer} talk=${talk} />
    </section>`;
}

function Chat() {
  if (!token.value) return html`<${Prompt} />`;
  const talk = open.value;
  const { kind, name, pane } = address.value;
  const view = !name ? 'list' : pane === 'people' ? 'people' : 'talk';
  return html`
    <h1 class="unseen">${t('chat.title')}</h1>
    <div class="chat" data-view=${view} data-kind=${kind}>
      <${List} />
      ${talk ? html`<${Conversation} talk=${talk} />${talk.kind === 'room' && html`<${People} talk=${talk} />`}`
        : name && kind === 'room' && isReady.value ? html`<${Door} name=${name} />`
          : html`<section class="pane talk"><${Banner} />${isReady.value && html`<p class="hint empty">${t('chat.choose')}</p>`}</section>`}
    </div>
    <p class="unseen" role="status">${announced.value}</p>`;
}

onNews(announce, (talk, user) => {
  // A user without a known name has come since the members were asked for.
  if (isUnnamed(talk, user)) learn(talk);
});

/** @param {import('./chat/talk.js').Talk} talk @param {string} user */
const isUnnamed = (talk, user) => talk.kind === 'room' && nickOf(talk, user) === user;

/** The lines that are not announced yet, since the names of their authors are not known. @type {import('./chat/talk.js').Line[]} */
let unsaid = [];

/** @param {import('./chat/talk.js').Talk} talk @param {import('./chat/talk.js').Line[]} lines */
async function announce(talk, lines) {
  if (talk !== open.value) return;
  unsaid.push(...lines);
  if (unsaid.length > lines.length) return;
  const [{ from }] = lines;
  if (isUnnamed(talk, from)) await learned.get(talk.topic)?.done;
  if (isUnnamed(talk, from)) await learn(talk);
  const [last, ...others] = unsaid.splice(0).reverse();
  if (talk !== open.value) return;
  announced.value = others.length === 0 ? `${nickOf(talk, last.from)}: ${last.text}` : t('chat.many', { count: number(others.length + 1) });
}

/** The time at which the names of a room were asked for last, or will be. @type {Map<string, { at: number, done: Promise<void> }>} */
const learned = new Map();

/** Learns the names of a room's members, not more often than every few seconds. @param {import('./chat/talk.js').Talk} talk */
function learn(talk) {
  const now = Date.now();
  const last = learned.get(talk.topic);
  if (last && last.at > now) return last.done;
  const at = Math.max(now, (last?.at ?? 0) + LEARN_MS);
  const done = new Promise((resolve) => { setTimeout(resolve, at - now); }).then(() => learnNow(talk));
  learned.set(talk.topic, { at, done });
  return done;
}

/** @param {import('./chat/talk.js').Talk} talk */
async function learnNow(talk) {
  await rooms.members(talk.name, { limit: 100 }).then(({ members }) => { known(talk, members); stir.value += 1; }, () => {});
}

show('chat', Chat);
token.subscribe(() => { begin(); });
// The names of the loaded rooms are learned.
effect(() => { for (const talk of talks.value) if (talk.kind === 'room' && talk.isLoaded.value) learn(talk); });
// A user with whom there is no exchange yet.
effect(() => {
  const { kind, name } = address.value;
  if (kind === 'user' && name && isReady.value && can.value.conversations) exchange(name);
});
/** @type {import('./chat/talk.js').Talk | undefined} */
let former;
effect(() => {
  if (open.value === former) return;
  former = open.value;
  former?.enter();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) open.value?.away();
  else open.value?.enter();
});
// Rooms that the user was added to while the page was hidden.
document.addEventListener('visibilitychange', () => { if (!document.hidden && client && isReady.value) refresh().catch(() => {}); });
effect(() => {
  const count = talks.value.reduce((sum, talk) => sum + talk.pressing, 0);
  document.title = `${count > 0 ? `(${number(count)}) ` : ''}${open.value ? `${open.value.title} · ` : ''}${t('chat.title')} · Everywire`;
});
