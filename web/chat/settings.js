/** The settings of a conversation: on top, out of sight, without noise; and users from whom nothing is taken. */

import { reasonOf, t } from '../shared.js';
import { html, useState } from '../vendor/ui.js';
import { block, blocked, can, want } from './model.js';

const SWITCHES = /** @type {const} */ (['pinned', 'muted', 'archived']);
const LEVELS = ['all', 'mentions', 'none'];

/** @param {{ talk: import('./talk.js').Talk }} props */
export function Settings({ talk }) {
  const [refusal, setRefusal] = useState('');
  const own = talk.own.value;
  const isBlocked = blocked.value.has(talk.name);
  const act = (/** @type {Promise<any>} */ change) => change.then(() => setRefusal(''), (error) => setRefusal(reasonOf(error)));
  return html`
    ${SWITCHES.map((name) => html`<label key=${name}><input type="checkbox" checked=${own[name]} onChange=${(/** @type {any} */ event) => act(want(talk, { [name]: event.target.checked }))} /> ${t(`chat.wish.${name}`)}</label>`)}
    <label for="notify">${t('chat.notify')}</label>
    <select id="notify" value=${own.notify} onChange=${(/** @type {any} */ event) => act(want(talk, { notify: event.target.value }))}>
      ${LEVELS.map((level) => html`<option key=${level} value=${level} selected=${own.notify === level}>${t(`chat.notify.${level}`)}</option>`)}
    </select>
    ${talk.kind === 'user' && can.value.block && html`<button type="button" onClick=${() => act(block(talk.name, !isBlocked))}>${t(isBlocked ? 'chat.unblock' : 'chat.block', { who: talk.title })}</button>`}
    ${refusal && html`<p class="status bad" role="alert">${refusal}</p>`}`;
}
