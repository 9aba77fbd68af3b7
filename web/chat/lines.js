/**
 * The lines of a conversation. At most {@link ROWS_MOST} rows are in the page; older ones come when the user scrolls to them,
 * and the rows in sight stay in place.
 */

import { distance } from '../sdk/cursor.js';
import { language, lazy, number, reasonOf, t } from '../shared.js';
import { html, signal, useEffect, useLayoutEffect, useRef, useState } from '../vendor/ui.js';
import { address, addressOf, can, me, nickOf, nicks, rooms } from './model.js';
import { Text, brief, day, dayOf, hour, unquoted } from './words.js';
import { begin } from './composer.js';

/** @typedef {import('./talk.js').Talk} Talk */
/** @typedef {import('./talk.js').Line} Line */

const [ROWS, ROWS_MOST] = [150, 300];
/** Lines of one person within this time stand together. */
const GROUP_MS = 5 * 60_000;
const EDGE_PX = 40;
const REACTIONS = ['👍', '❤️', '😂', '🎉'];

/** The line whose actions are shown. */
const chosen = signal('');
const refusal = signal('');

/** The line whose fate is shown. */
const asked = signal('');

/** Rows that were made, by line: a row that hasn't changed isn't made again. @type {WeakMap<Line, { sign: string, row: any }>} */
const made = new WeakMap();

/** @param {Promise<any>} act */
const attempt = (act, id = chosen.value) => act.then(() => { refusal.value = ''; if (chosen.value === id) chosen.value = ''; }, (error) => { refusal.value = reasonOf(error); });

/** @param {{ talk: Talk, line: Line }} props */
function Actions({ talk, line }) {
  const isMine = line.from === me.value;
  const mayModerate = talk.room.value.may?.moderate;
  const start = (/** @type {'reply' | 'edit'} */ what) => { begin(talk, what, line); chosen.value = ''; };
  const mine = line.reactions;
  return html`
    <div class="acts" role="group" aria-label=${t('chat.acts')}>
      ${can.value.react && REACTIONS.map((key) => html`<button key=${key} type="button" aria-pressed=${mine[key]?.includes(me.value) ?? false} aria-label=${t('chat.react', { key })} onClick=${() => attempt(rooms.react(line.id, key, !mine[key]?.includes(me.value)))}>${key}</button>`)}
      <button type="button" onClick=${() => start('reply')}>${t('chat.reply')}</button>
      ${can.value.change && isMine && html`<button type="button" onClick=${() => start('edit')}>${t('chat.edit')}</button>`}
      ${can.value.change && (isMine || mayModerate) && html`<button type="button" onClick=${() => attempt(rooms.recall(line.id))}>${t('chat.recall')}</button>`}
      ${isMine && html`<button type="button" aria-expanded=${asked.value === line.id} onClick=${() => { asked.value = asked.value === line.id ? '' : line.id; }}>${t('chat.fate')}</button>`}
      <button type="button" onClick=${() => attempt(navigator.clipboard.writeText(new URL(addressOf(talk, line.id), location.href).href))}>${t('chat.copyLink')}</button>
    </div>`;
}

const Fate = lazy(() => import('./fate.js').then((module) => module.Fate), 'fate');

/** Shows the line that an answer is about, as it is now. @param {Talk} talk @param {Line} line */
const quoting = (talk, line) => (/** @type {string} */ quoted) => {
  if (!line.ref) return quoted;
  const original = talk.lineOf(line.ref);
  const text = !original ? quoted : `${nickOf(talk, original.from)}: ${original.isRecalled ? t('chat.recalled') : brief(unquoted(original.text))}`;
  return html`<a href=${addressOf(talk, line.ref)} onClick=${() => { if (address.value.pane === line.ref) focusOn(line.ref); }}>${text}</a>`;
};

/** @param {string} id */
const focusOn = (id) => document.getElementById(`m-${id}`)?.focus();

/** @param {{ talk: Talk, line: Line }} props */
function Reactions({ talk, line }) {
  const keys = Object.entries(line.reactions).filter(([, users]) => users.length > 0);
  if (keys.length === 0) return null;
  return html`<ul class="reactions" aria-label=${t('chat.reactions')}>${keys.map(([key, users]) => {
    const isOn = users.includes(me.value);
    const who = users.map((user) => nickOf(talk, user)).join(', ');
    return html`<li key=${key}>${can.value.react
      ? html`<button type="button" aria-pressed=${isOn} aria-label=${t('chat.reacted', { key, who })} title=${who} onClick=${() => attempt(rooms.react(line.id, key, !isOn))}>${key} ${number(users.length)}</button>`
      : html`<span title=${who}>${key} ${number(users.length)}</span>`}</li>`;
  })}</ul>`;
}

/**
 * @param {Talk} talk @param {Line} line
 * @param {{ isFirst: boolean, isChosen: boolean, read: number, sign: string }} how
 */
function row(talk, line, { isFirst, isChosen, read, sign }) {
  const cached = made.get(line);
  if (cached?.sign === sign) return cached.row;
  const isMine = line.from === me.value;
  const who = nickOf(talk, line.from) || t('app.anonymous');
  const isDirect = talk.kind === 'user';
  const hasCome = isDirect && distance(talk.received.value, line.cursor) >= 0;
  const mark = read > 0 ? t(isDirect ? 'chat.read' : 'chat.readBy', { count: number(read) }) : t(hasCome ? 'chat.received' : 'chat.kept');
  const signs = read > 0 ? `✓✓${isDirect ? '' : ` ${number(read)}`}` : hasCome ? '✓✓' : '✓';
  const content = line.kind === 'subject' ? html`<p class="hint">${t('chat.subject', { who, text: line.text })}</p>`
    : line.isRecalled ? html`<p class="hint">${t('chat.recalledBy', { who })}</p>`
      : html`
        ${isFirst && html`<p class="who"><b title=${line.from} dir="auto">${who}</b>${who !== line.from && html` <small title=${line.from}>${line.from}</small>`}</p>`}
        <div class="body"><${Text} text=${line.text} quote=${quoting(talk, line)} />${line.isEdited && html` <small class="edited">${t('chat.edited')}</small>`}</div>
        <${Reactions} talk=${talk} line=${line} />`;
  const it = html`
    <li key=${line.id} id=${`m-${line.id}`} class=${`line ${isMine ? 'mine' : ''} ${isFirst ? 'first' : ''} ${talk.names(line.text) ? 'names' : ''}`} tabindex="-1" data-id=${line.id}>
      ${content}
      <span class="when"><time datetime=${new Date(line.at).toISOString()}>${hour(line.at)}</time>${isMine && !line.isRecalled && html` <span class=${`mark ${read > 0 ? 'read' : ''}`} role="img" aria-label=${mark} title=${mark}>${signs}</span>`}</span>
      ${!line.isRecalled && line.kind === 'chat' && html`<button type="button" class="open" tabindex="-1" aria-expanded=${isChosen} aria-label=${t('chat.actsOf', { who })} onClick=${() => { chosen.value = isChosen ? '' : line.id; }}>…</button>`}
      ${isChosen && html`<${Actions} talk=${talk} line=${line} />${asked.value === line.id && html`<${Fate} talk=${talk} line=${line} />`}`}
    </li>`;
  made.set(line, { sign, row: it });
  return it;
}

/** The rows of some lines, with days, the mark of new lines, and gaps between them. @param {Talk} talk @param {Line[]} lines @param {Line | undefined} previous */
function rowsOf(talk, lines, previous) {
  const rows = [];
  const epoch = `${language.value}|${nicks.value.size}|${can.value.react}|${can.value.change}|${talk.room.value.may?.moderate}`;
  const gaps = talk.gaps.value.map(String);
  let isNewShown = previous !== undefined && distance(previous.cursor, talk.opened.value) > 0;
  for (const line of lines) {
    const isNextDay = !previous || dayOf(previous.at) !== dayOf(line.at);
    const isNew = !isNewShown && Boolean(talk.opened.value) && line.from !== me.value && distance(line.cursor, talk.opened.value) > 0;
    const isGap = gaps.some((gap) => distance(line.cursor, gap) >= 0 && !(previous && distance(previous.cursor, gap) >= 0));
    isNewShown ||= isNew;
    const before = [
      isNextDay && html`<li class="between" key=${`day ${line.id}`}><span>${day(line.at)}</span></li>`,
      isGap && html`<li class="between gap" key=${`gap ${line.id}`}><span>${previous ? t('chat.gap', { from: hour(previous.at), to: hour(line.at) }) : t('chat.gapBefore', { to: hour(line.at) })}</span></li>`,
      isNew && html`<li class="between new" key="new"><span>${t('chat.new')}</span></li>`,
    ].filter(Boolean);
    const isFirst = before.length > 0 || !previous || previous.from !== line.from || line.at - previous.at > GROUP_MS || previous.kind !== 'chat' || previous.isRecalled;
    const isChosen = chosen.value === line.id;
    const read = line.from === me.value ? talk.readBy(line) : 0;
    const original = line.ref ? talk.lineOf(line.ref) : undefined;
    const sign = `${epoch}|${isFirst}|${isChosen && asked.value}|${isChosen}|${read}|${line.from === me.value ? talk.received.value : ''}|${original?.text}`;
    rows.push(...before, row(talk, line, { isFirst, isChosen, read, sign }));
    previous = line;
  }
  return rows;
}

/** The texts that are on their way, or were refused. @param {{ talk: Talk }} props */
function Waiting({ talk }) {
  return talk.waiting.value.map(({ key, text, at, refused }) => html`
    <li key=${`w${key}`} class=${`line mine first ${refused ? 'refused' : 'waiting'}`}>
      <div class="body"><${Text} text=${text} /></div>
      <span class="when"><time datetime=${new Date(at).toISOString()}>${hour(at)}</time> ${!refused && html`<span class="mark" role="img" aria-label=${t('chat.waiting')} title=${t('chat.waiting')}>◷</span>`}</span>
      ${refused && html`
        <p class="bad" role="alert">${t('chat.refused', { reason: refused })}</p>
        <div class="acts">
          <button type="button" onClick=${() => { talk.discard(key); talk.keepDraft(text); document.getElementById('composer')?.focus(); }}>${t('chat.again')}</button>
          <button type="button" onClick=${() => talk.discard(key)}>${t('chat.discard')}</button>
        </div>`}
    </li>`);
}

/** Moves among the lines, and opens the actions of one. @param {KeyboardEvent & { currentTarget: any, target: any }} event */
function press(event) {
  const list = event.currentTarget;
  const rows = /** @type {HTMLElement[]} */ ([...list.querySelectorAll('.line[data-id]')]);
  const here = rows.indexOf(event.target.closest('.line'));
  if (event.key === 'Escape' && chosen.value) {
    chosen.value = '';
    rows[here]?.focus();
  } else if (event.target.closest('button, a, summary')) return;
  else if (event.key === 'Enter' && here >= 0) {
    chosen.value = /** @type {string} */ (rows[here].dataset.id);
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (rows[here].querySelector('.acts button'))?.focus());
  } else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
    const to = here < 0 ? rows.length - 1 : here + (event.key === 'ArrowUp' ? -1 : 1);
    rows[Math.max(0, Math.min(rows.length - 1, to))]?.focus();
  } else return;
  event.preventDefault();
}

/** @param {HTMLElement} area */
const restOf = (area) => area.scrollHeight - area.clientHeight - area.scrollTop;

/** The line at the top of what is in sight; the first of all loses its head to older ones. @param {HTMLElement} area */
function topOf(area) {
  const { top } = area.getBoundingClientRect();
  const rows = /** @type {HTMLElement[]} */ ([...area.querySelectorAll('.line[data-id]')]);
  const row = rows.find((it, i) => i > 0 && it.getBoundingClientRect().bottom > top) ?? rows[0];
  return row && { id: row.id, top: row.getBoundingClientRect().top - top };
}

/** @param {{ talk: Talk }} props */
export function Lines({ talk }) {
  const list = useRef(/** @type {HTMLOListElement | null} */ (null));
  /** The last row: the newest line (`null`), or the id of a line that the user reads. */
  const [end, setEnd] = useState(/** @type {string | null} */ (null));
  const [count, setCount] = useState(ROWS);
  const atEnd = useRef(true);
  /** The position for which `atEnd` holds. */
  const place = useRef(0);
  const anchor = useRef(/** @type {{ id: string, top: number } | null} */ (null));
  const lines = talk.lines.value;
  const endAt = end === null ? lines.length : Math.max(1, lines.findIndex(({ id }) => id === end) + 1 || lines.length);
  const begin = Math.max(0, endAt - count);
  const shown = lines.slice(begin, endAt);
  const isAll = endAt === lines.length;
  const newer = lines.length - endAt;

  /** Notes where the user has scrolled to. */
  const notice = () => {
    const area = list.current;
    if (!area || area.scrollTop === place.current) return;
    place.current = area.scrollTop;
    atEnd.current = restOf(area) < EDGE_PX && isAll;
  };
  const toEnd = () => {
    const area = /** @type {HTMLElement} */ (list.current);
    area.scrollTop = area.scrollHeight;
    place.current = area.scrollTop;
  };
  // The rows are about to change: what the user reads stays where it is.
  notice();
  anchor.current = list.current && !atEnd.current ? topOf(list.current) : null;
  const earlier = async () => {
    if (begin === 0) {
      if (!talk.hasMore.value) return;
      await talk.older().catch(() => {});
    }
    if (count + ROWS > ROWS_MOST) setEnd(lines[Math.min(lines.length - 1, begin + ROWS)]?.id ?? null);
    setCount(Math.min(ROWS_MOST, count + ROWS));
  };
  const later = () => {
    if (isAll) return;
    const next = lines[Math.min(lines.length - 1, endAt + ROWS)];
    setEnd(next === lines.at(-1) ? null : next.id);
  };
  const scrolled = () => {
    const area = /** @type {HTMLElement} */ (list.current);
    notice();
    if (area.scrollTop < EDGE_PX * 3) earlier();
    else if (restOf(area) < EDGE_PX * 3) later();
    if (atEnd.current) {
      // Who comes back to the end is shown what comes.
      setEnd(null);
      look(talk);
    }
    if (atEnd.current !== isAtEnd.value) isAtEnd.value = atEnd.current;
  };
  const down = () => {
    atEnd.current = true;
    setEnd(null);
    setCount(ROWS);
    requestAnimationFrame(() => {
      if (list.current) toEnd();
      look(talk);
    });
  };

  useLayoutEffect(() => {
    const area = /** @type {HTMLElement} */ (list.current);
    const held = anchor.current;
    if (held) {
      const row = document.getElementById(held.id);
      if (row) area.scrollTop += row.getBoundingClientRect().top - area.getBoundingClientRect().top - held.top;
      place.current = area.scrollTop;
    } else if (atEnd.current && isAll) toEnd();
    // Lines count as read when they were seen, not when they came.
    if (atEnd.current && isAll) look(talk);
  }, [shown[0]?.id, lines.at(-1), talk.waiting.value, end, count, chosen.value]);

  useEffect(() => {
    const sight = () => { if (atEnd.current) look(talk); };
    document.addEventListener('visibilitychange', sight);
    const resize = new ResizeObserver(() => {
      notice();
      if (list.current && atEnd.current) toEnd();
    });
    resize.observe(/** @type {HTMLElement} */ (list.current));
    return () => {
      document.removeEventListener('visibilitychange', sight);
      resize.disconnect();
    };
  }, [talk, isAll]);

  // A line that an address names is shown.
  const { pane } = address.value;
  useEffect(() => {
    if (!pane || !talk.isLoaded.value) return;
    const at = lines.findIndex(({ id }) => id === pane);
    if (at < 0) {
      talk.seek(pane).then((isThere) => { refusal.value = isThere ? '' : t('chat.notFound'); }, (error) => { refusal.value = reasonOf(error); });
      return;
    }
    if (at < begin || at >= endAt) setEnd(lines[Math.min(lines.length - 1, at + ROWS / 2)].id);
    atEnd.current = false;
    requestAnimationFrame(() => focusOn(pane));
  }, [pane, at(lines, pane), talk.isLoaded.value]);
  useEffect(() => { refusal.value = ''; }, [pane, talk]);

  const unseen = talk.unread.value;
  return html`
    <div class="lines-frame">
      <ol class="lines" ref=${list} tabindex="0" aria-label=${t('chat.lines')} aria-busy=${!talk.isLoaded.value} onScroll=${scrolled} onKeyDown=${press}>
        ${begin === 0 && !talk.hasMore.value && talk.isLoaded.value && html`<li class="between" key="begin"><span>${t(lines.length === 0 ? 'chat.nothing' : 'chat.beginning')}</span></li>`}
        ${rowsOf(talk, shown, lines[begin - 1])}
        ${isAll && html`<${Waiting} talk=${talk} />`}
      </ol>
      ${(!isAtEnd.value || newer > 0) && html`<button type="button" class="down" onClick=${down}>${unseen > 0 ? t('chat.newer', { count: number(unseen) }) : t('chat.toEnd')}</button>`}
      ${refusal.value && html`<p class="status bad" role="alert">${refusal.value}</p>`}
    </div>`;
}

const isAtEnd = signal(true);

/** @param {Line[]} lines @param {string} id */
const at = (lines, id) => Boolean(id) && lines.some((line) => line.id === id);

/** Marks the lines up to the end as seen, if the page is in sight. @param {Talk} talk */
function look(talk) {
  if (!document.hidden) talk.seen();
}
