/** The display of times and texts. */

import { formatter, number, t } from '../shared.js';
import { html } from '../vendor/ui.js';

/** The number of characters of a text that are shown at first. */
const TEXT_MOST = 2000;

/** @param {number} at */
export const hour = (at) => formatter('hour', (language) => new Intl.DateTimeFormat(language, { timeStyle: 'short' })).format(at);

/** @param {number} at */
export const dayOf = (at) => new Date(at).toDateString();

/** @param {number} at */
export function day(at) {
  const days = Math.round((new Date(new Date().toDateString()).getTime() - new Date(dayOf(at)).getTime()) / 86_400_000);
  if (days === 0) return t('chat.today');
  if (days === 1) return t('chat.yesterday');
  return formatter('day', (language) => new Intl.DateTimeFormat(language, { dateStyle: 'full' })).format(at);
}

/** @param {number} count */
export const many = (count) => (count > 999 ? '999+' : number(count));

/** @param {string} text */
export const brief = (text) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);

/** The quote above an answer: each of its lines begins with `> `, which every client shows in its way. @param {string} who @param {string} text */
export const quote = (who, text) => `> ${who}: ${brief(unquoted(text))}\n`;

/** A text in one line, without its quotes. @param {string} text */
export const unquoted = (text) => text.replace(/^> .*\n?/gm, '').replace(/\s+/g, ' ').trim();

/** A text with its quote and its links; all of it is text, never markup. @param {{ text: string, quote?: (text: string) => any }} props */
export function Text({ text, quote = (quoted) => quoted }) {
  const [, quoted = '', rest = ''] = /^((?:> [^\n]*\n?)*)([^]*)$/.exec(text.slice(0, TEXT_MOST)) ?? [];
  const isLong = text.length > TEXT_MOST;
  return html`
    ${quoted && html`<blockquote dir="auto">${quote(quoted.replace(/^> /gm, '').trim())}</blockquote>`}
    <span class="text" dir="auto">${linked(rest)}</span>
    ${isLong && html`<details><summary>${t('chat.more', { count: number(text.length) })}</summary><span class="text" dir="auto">${text.slice(TEXT_MOST)}</span></details>`}`;
}

/** @param {string} text */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"]+)/).map((part, i) => (i % 2 === 1
    ? html`<a href=${part} target="_blank" rel="noopener noreferrer nofollow">${part}</a>` : part));
}
