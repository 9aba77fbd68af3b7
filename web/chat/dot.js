/** A dot that says whether a user is there. */

import { t } from '../shared.js';
import { html } from '../vendor/ui.js';
import { presence } from './model.js';
import { day, dayOf, hour } from './words.js';

/** The presence of a user in words; empty if it isn't known. @param {string} user */
export function presenceOf(user) {
  const known = presence.value.get(user);
  if (!known) return '';
  const at = Date.parse(known.seen ?? '');
  if (known.presence !== 'left' || !at) return t(`chat.presence.${known.presence}`);
  return t('chat.seen', { time: dayOf(at) === dayOf(Date.now()) ? hour(at) : day(at) });
}

/** @param {{ user: string }} props */
export function Dot({ user }) {
  const words = presenceOf(user);
  return words && html`<span class=${`dot ${presence.value.get(user)?.presence}`} role="img" aria-label=${words} title=${words}></span>`;
}
