/**
 * The wires for networks that WebSocket doesn't get through, loaded with the first try of one. Each is a function that reads for its
 * link's readers until it fails, and calls `link.live()` as soon as an answer has come through.
 *
 * @import { Reader } from './subscription.js'
 * @import { Link } from './link.js'
 * @import { Links } from './links.js'
 */
import { claims } from './claims.js';
import { Problem } from './shared.js';
import { EventStreamParser } from './sse.js';

/** The time for which a long poll hangs, in seconds; less for the first one, since a wire has little time to prove itself. */
const [WAIT_S, FIRST_WAIT_S] = [20, 2];
/** The longest silence of a stream, two heartbeats of 15 s, and of a short answer. */
const [STREAM_MS, ANSWER_MS] = [32_000, 10_000];

/** @type {Record<string, (link: Link) => Promise<unknown>>} */
export const WIRES = {
  async poll(link) {
    for (;;) {
      const more = await turn(link, (readers) => page(link, readers, {}));
      if (more !== undefined) link.live();
      if (more === false) await pause(link, link.links.settings.pollMs);
    }
  },

  async longpoll(link) {
    for (;;) {
      await turn(link, async (readers) => {
        const wait = readers.some(({ at }) => !at) ? 0 : link.isLive ? WAIT_S : FIRST_WAIT_S;
        await page(link, readers, { wait });
        if (wait) link.live();
      });
    }
  },

  async sse(link) {
    for (;;) await turn(link, (readers) => stream(link, readers));
  },
};

/**
 * One request for all readers, begun anew when they change; before it the readers at other places catch up by pages.
 * @template T
 * @param {Link} link
 * @param {(readers: Reader[]) => Promise<T>} ask
 */
async function turn(link, ask) {
  link.request = new AbortController();
  const { signal } = link.request;
  const { readers } = link;
  try {
    const [first, ...others] = readers;
    // All readers must be at one place: a stream has one cursor.
    if (others.some(({ at }) => at !== first.at)) {
      for (const reader of readers) {
        while (await page(link, [reader], reader.at ? {} : { after: 'latest' }));
      }
    }
    return await ask(readers);
  } catch (error) {
    if (link.signal.aborted || !signal.aborted) throw error;
    return undefined;
  } finally {
    link.request.abort();
  }
}

/** Waits, unless the readers change or the link ends. @param {Link} link @param {number} ms */
async function pause(link, ms) {
  link.silenceMs = Infinity;
  link.request = new AbortController();
  if (link.signal.aborted) return;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    link.request.signal.addEventListener('abort', () => { clearTimeout(timer); resolve(0); });
  });
}

/**
 * @param {Link} link @param {string} path @param {Reader[]} readers
 * @param {Record<string, string | number | undefined>} query @param {number} silenceMs
 */
async function read(link, path, readers, query, silenceMs) {
  link.heard();
  link.silenceMs = silenceMs;
  const topic = [...new Set(readers.flatMap(({ topics }) => topics))];
  const response = await link.links.ask(path, { topic, ...query }, { signal: AbortSignal.any([link.signal, link.request.signal]) });
  link.links.user = claims(await link.links.token()).sub;
  return response;
}

/**
 * One poll; tells whether there is more.
 * @param {Link} link
 * @param {Reader[]} readers
 * @param {{ wait?: number, after?: string }} query
 */
async function page(link, readers, { wait = 0, after = link.place(readers) ?? 'latest' }) {
  const response = await read(link, 'v1/messages', readers, { after, wait: wait || undefined }, wait * 1000 + ANSWER_MS);
  const { messages = [], cursor = response.headers.get('Everywire-Cursor'), gap, more } = response.status === 200 ? await response.json() : {};
  if (gap) link.links.host.event('gap', { topic: readers.flatMap(({ topics }) => topics).join(' '), after, earliest: messages[0]?.cursor ?? cursor });
  await link.take(messages, readers, cursor);
  return more === true;
}

/** @param {Link} link @param {Reader[]} readers */
async function stream(link, readers) {
  const response = await read(link, 'v1/events', readers, { after: link.place(readers) }, STREAM_MS);
  const parser = new EventStreamParser();
  const text = new TextDecoder();
  const body = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  for (let part = await body.read(); !part.done; part = await body.read()) {
    link.heard();
    for (const { id, event, data } of parser.push(text.decode(part.value, { stream: true }))) {
      const content = data === null ? null : JSON.parse(data);
      // Applications may name their events like the server's; but only a message has an id.
      if (content && !content.id) {
        if (event === 'close') throw Problem.ended(content);
        link.links.host.event(event, content);
      }
      link.live();
      await link.take(content?.id ? [content] : [], readers, id);
    }
    link.live();
  }
  throw new Problem(0, 'the stream ended');
}

/**
 * Finds out which of many readers is refused, since a request for all is refused as a whole. Says whether some were
 * refused and others not.
 * @param {Links} links @param {Reader[]} readers
 */
export async function single(links, readers) {
  let allowed = 0;
  for (const reader of readers) {
    const problem = await links.ask('v1/messages', { topic: reader.topics, after: 'latest' }).then(() => undefined, Problem.from);
    if (!problem || problem.isPassing) allowed += 1;
    else reader.refuse(problem);
  }
  return allowed > 0 && allowed < readers.length;
}
