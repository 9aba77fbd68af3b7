/**
 * Questions that are answered at once: the kept messages of a topic, and its subscribers. Loaded with the first of them.
 *
 * @import { Everywire } from './client.js'
 * @import { Page, Presence } from './types.js'
 */
import { unpacked } from './link.js';
import { Problem } from './shared.js';

/**
 * @param {Everywire} client @param {string} topic
 * @param {{ before?: string, after?: string, limit?: number, fold?: boolean }} where
 * @returns {Promise<Page<any>>}
 */
export async function history(client, topic, { before, after, limit, fold }) {
  if (!after) before ??= 'latest';
  const response = await client.ask('v1/messages', { topic, before, after, limit, fold: fold ? 1 : undefined });
  const cursor = response.headers.get('Everywire-Cursor') ?? '';
  const page = response.status === 200 ? await response.json() : { before };
  if (before && page.before === undefined) throw new Problem(501, 'this server can’t read backwards: it is of an older version');
  return { cursor, gap: false, more: false, ...page, messages: (page.messages ?? []).map(unpacked) };
}

/** @param {Everywire} client @param {string} topic @returns {Promise<Presence>} */
export const presence = async (client, topic) => (await client.ask('v1/presence', { topic })).json();
