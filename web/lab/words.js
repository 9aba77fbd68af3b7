/** The sentence beside a lane: its waste, and what that was for. */

import { bytes, number, t } from '../shared.js';

/** @param {import('./lane.js').Lane} lane @param {boolean} isCounted */
export function sentence(lane, isCounted) {
  const { requests, empty, messages, bytes: all } = lane.rates;
  if (lane.samples.length < 2) return t('lab.waiting');
  const minute = (/** @type {number} */ n) => number(Math.round(n * 60));
  const newsRate = lane.messages > 0 ? messages * (lane.news / lane.messages) : 0;
  const [news, heads] = [bytes(newsRate * 60), bytes(Math.max(0, all - newsRate) * 60)];
  const values = { requests: minute(requests), empty: minute(empty), messages: minute(messages), news, heads };
  const lost = lane.lost > 0 ? ` ${t('lab.lost', { count: number(lane.lost) })}` : '';
  const isPoll = lane.wire === 'poll' || lane.wire === 'longpoll';
  if (isPoll) return t(isCounted ? 'lab.sentence.requests' : 'lab.sentence.page', values) + lost;
  if (messages === 0) return t('lab.sentence.quiet', { messages: number(lane.messages) }) + lost;
  return t('lab.sentence.stream', values) + lost;
}
