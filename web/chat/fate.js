/** The fate of one's own line, in words: this window's knowledge, and for operators the server's trace of each device. */

import { ask, clock, number, reasonOf, t, useAnswer } from '../shared.js';
import { html, useState } from '../vendor/ui.js';
import { nickOf } from './model.js';

/** @param {{ talk: import('./talk.js').Talk, line: import('./talk.js').Line }} props */
export function Fate({ talk, line }) {
  const [trace, setTrace] = useState(/** @type {any} */ (null));
  const [refusal, setRefusal] = useState('');
  const take = (/** @type {any} */ found) => {
    setTrace(found);
    setRefusal('');
  };
  const refuse = (/** @type {any} */ error) => setRefusal(error.status === 403 ? t('chat.fate.operators') : reasonOf(error));
  useAnswer(() => ask(`v1/messages/${line.id}/trace`).then((response) => response.json()), take, refuse, [line.id]);
  const readers = [...talk.readersOf(line)].map((user) => nickOf(talk, user));
  const durability = trace?.stored.durability;
  return html`
    <div class="fate" role="status">
      <p>${t('chat.fate.kept', { time: clock(line.at) })}${durability && ` ${t(`chat.fate.${durability}`)}`}</p>
      ${readers.length > 0 && html`<p>${t('chat.fate.readBy', { who: readers.join(', ') })}</p>`}
      ${trace && html`
        <p>${trace.recipients.length > 0 ? t('chat.fate.devices', { count: number(trace.recipients.length) }) : t('fate.nobody')}</p>
        <ul>${trace.recipients.map((/** @type {any} */ one) => html`
          <li key=${one.connection}><span class="chip" data-wire=${one.wire}>${t(`wire.${one.wire}`)}</span> ${one.user ? nickOf(talk, one.user) : t('app.anonymous')}: ${t(`fate.${one.fate}`)}${(one.acknowledged ?? one.written) && `, ${clock(one.acknowledged ?? one.written)}`}</li>`)}</ul>`}
      ${refusal && html`<p class="hint">${refusal}</p>`}
    </div>`;
}
