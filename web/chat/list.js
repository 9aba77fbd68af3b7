/** The left pane: the conversations, the lines found in them, rooms to join or to make. */

import { number, reasonOf, t, useAnswer } from '../shared.js';
import { html, signal, useState } from '../vendor/ui.js';
import { addressOf, found, invitations, nickOf, open, ownNick, rooms, sorted, talks } from './model.js';
import { Dot } from './dot.js';
import { brief, day, dayOf, hour, many } from './words.js';

const FOUND_MOST = 30;
const sought = signal('');

/** @param {{ talk: import('./talk.js').Talk }} props */
function Entry({ talk }) {
  const { last } = talk;
  const isOpen = talk === open.value;
  const unread = talk.unread.value;
  const isNamed = talk.mentions.value > 0;
  const { pinned, muted } = talk.own.value;
  return html`
    <li>
      <a class="entry" href=${addressOf(talk)} aria-current=${isOpen ? 'true' : undefined}>
        <b dir="auto">${talk.kind === 'user' && html`<${Dot} user=${talk.name} /> `}${pinned && html`<span class="sign" role="img" aria-label=${t('chat.pinned')} title=${t('chat.pinned')}>📌</span> `}${muted && html`<span class="sign" role="img" aria-label=${t('chat.muted')} title=${t('chat.muted')}>🔕</span> `}${talk.title}</b>
        ${last && html`<time datetime=${new Date(last.at).toISOString()}>${dayOf(last.at) === dayOf(Date.now()) ? hour(last.at) : day(last.at)}</time>`}
        <span class="last" dir="auto">${talk.draft.value ? t('chat.draft', { text: brief(talk.draft.value) }) : last ? `${nickOf(talk, last.from)}: ${last.isRecalled ? t('chat.recalled') : brief(last.text)}` : t('chat.nothing')}</span>
        ${unread > 0 && html`<span class=${`count ${isNamed ? 'named' : ''} ${talk.pressing > 0 ? '' : 'quiet'}`}><span aria-hidden="true">${isNamed ? '@ ' : ''}${many(unread)}</span><span class="unseen">${t(isNamed ? 'chat.unreadNamed' : 'chat.unread', { count: many(unread) })}</span></span>`}
      </a>
    </li>`;
}

/** The loaded lines that contain the words. */
function Found() {
  const words = sought.value.toLowerCase();
  const hits = [];
  for (const talk of talks.value) {
    for (let i = talk.lines.value.length - 1; i >= 0 && hits.length < FOUND_MOST; i -= 1) {
      const line = talk.lines.value[i];
      if (!line.isRecalled && line.text.toLowerCase().includes(words)) hits.push({ talk, line });
    }
  }
  return html`
    <h2>${t('chat.found', { count: number(hits.length) })}</h2>
    <ul>
      ${hits.map(({ talk, line }) => html`
        <li key=${line.id}><a class="entry" href=${addressOf(talk, line.id)}>
          <b dir="auto">${talk.title}</b><time datetime=${new Date(line.at).toISOString()}>${hour(line.at)}</time>
          <span class="last" dir="auto">${nickOf(talk, line.from)}: ${brief(line.text)}</span>
        </a></li>`)}
    </ul>`;
}

/** Rooms that anybody may join. */
function Listed() {
  const [listed, setListed] = useState(/** @type {import('../sdk/rooms.js').Room[] | null} */ (null));
  useAnswer(() => rooms.list('listed'), (page) => setListed(page.rooms), () => setListed([]), [talks.value.length]);
  const others = (listed ?? []).filter(({ topic }) => !talks.value.some((talk) => talk.topic === topic));
  if (others.length === 0) return null;
  return html`
    <h2>${t('chat.listed')}</h2>
    <ul>${others.map(({ room, title, members }) => html`
      <li key=${room}><a class="entry" href=${addressOf({ kind: 'room', name: room })}><b dir="auto">${title || room}</b><span class="last">${t('chat.members', { count: number(members ?? 0) })}</span></a></li>`)}</ul>`;
}

/** The invitations from others. */
function Invitations() {
  const open = invitations.value.filter(({ room }) => !talks.value.some(({ kind, name }) => kind === 'room' && name === room));
  return open.length > 0 && html`
    <h2>${t('chat.invitations')}</h2>
    <ul>${open.map(({ room, title, from }) => html`
      <li key=${room}><a class="entry" href=${addressOf({ kind: 'room', name: room })}><b dir="auto">${title}</b><span class="last">${t('chat.invitedBy', { who: from })}</span></a></li>`)}</ul>`;
}

/** Makes a room, and goes there. */
function Make() {
  const [title, setTitle] = useState('');
  const [refusal, setRefusal] = useState('');
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      location.hash = addressOf({ kind: 'room', name: await found(title.trim(), ownNick()) });
      setTitle('');
      setRefusal('');
    } catch (error) {
      setRefusal(reasonOf(error));
    }
  };
  return html`
    <form class="make" onSubmit=${make}>
      <label for="make">${t('chat.make')}</label>
      <div class="row"><input id="make" required maxlength="80" autocomplete="off" placeholder=${t('chat.make.hint')} value=${title} onInput=${(/** @type {any} */ event) => setTitle(event.target.value)} /><button>${t('chat.make.go')}</button></div>
      ${refusal && html`<p class="status bad" role="alert">${refusal}</p>`}
    </form>`;
}

export function List() {
  const shown = sorted.value.filter(({ title }) => title.toLowerCase().includes(sought.value.toLowerCase()));
  const [present, archived] = [false, true].map((is) => shown.filter(({ own }) => own.value.archived === is));
  const entries = (/** @type {typeof shown} */ some) => html`<ul>${some.map((talk) => html`<${Entry} key=${talk.conversation} talk=${talk} />`)}</ul>`;
  return html`
    <nav class="pane list" aria-label=${t('chat.conversations')}>
      <div class="scroll">
        <input type="search" aria-label=${t('chat.search')} placeholder=${t('chat.search')} value=${sought.value} onInput=${(/** @type {any} */ event) => { sought.value = event.target.value; }} />
        ${entries(present)}
        ${archived.length > 0 && html`<details class="archived" open=${archived.includes(/** @type {any} */ (open.value))}><summary>${t('chat.archived', { count: number(archived.length) })}</summary>${entries(archived)}</details>`}
        <${Invitations} />
        ${talks.value.length === 0 && html`<p class="hint">${t('chat.none')}</p>`}
        ${sought.value.length > 1 ? html`<${Found} />` : html`<${Listed} />`}
      </div>
      <${Make} />
    </nav>`;
}
