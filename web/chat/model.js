/** The model of the chat: the user, the conversations, the state of the connection. */

import { Rooms } from '../sdk/rooms.js';
import { distance } from '../sdk/cursor.js';
import { ask, attempt, base, connect, lasting, reasonOf, t, token } from '../shared.js';
import { batch, computed, signal } from '../vendor/ui.js';
import { Talk } from './talk.js';

/** @typedef {import('../sdk/client.js').Everywire} Everywire */

export const NAME = 'everywire:name';
const RECEIVED_MS = 1000;
/** The most rooms that a user follows here. */
const ROOMS_MOST = 100;

export const me = signal('');
export const talks = signal(/** @type {Talk[]} */ ([]));
/** The abilities of this server, by its description. */
export const can = signal({ conversations: false, change: false, react: false, signals: false, block: false });
export const line = signal(/** @type {{ state: string, wire?: string, reason?: string, since: number }} */ ({ state: 'idle', since: 0 }));
export const waiting = signal({ count: 0, reason: '' });
export const trouble = signal('');
export const isReady = signal(false);
/** Changes when somebody came, went or got another role. */
export const stir = signal(0);
/** The announcer's text: the author, and the line. */
export const announced = signal('');

/** The address of the open conversation, which may be a room that isn't joined yet. */
export const address = signal(parse());
addEventListener('hashchange', () => { address.value = parse(); });

/** `#/room/NAME`, `#/room/NAME/people`, `#/user/NAME`; the pane may be the id of a message. */
function parse() {
  const [, kind, name = '', pane = ''] = location.hash.slice(1).split('/');
  return { kind, name: kind === 'room' || kind === 'user' ? attempt(() => decodeURIComponent(name)) ?? '' : '', pane };
}

/** @param {{ kind: string, name: string }} place @param {string} [pane] */
export const addressOf = ({ kind, name }, pane) => `#/${kind}/${encodeURIComponent(name)}${pane ? `/${pane}` : ''}`;

/** The open conversation. */
export const open = computed(() => talks.value.find(({ kind, name }) => kind === address.value.kind && name === address.value.name));

/** A name as a level of a topic. @param {string} name */
const level = (name) => name.replace(/[/+#%\u0000-\u001f\u007f]/g, encodeURIComponent);

/** @type {Everywire | undefined} */
export let client;
/** @type {Rooms} */
export let rooms;

/** The storage of a user: each user of this browser has their own. @param {string} user */
const storeOf = (user) => ({
  get: (/** @type {string} */ key) => attempt(() => localStorage.getItem(`everywire:chat:${user}:${key}`)),
  set: (/** @type {string} */ key, /** @type {string | null} */ value) => {
    attempt(() => (value === null ? localStorage.removeItem(`everywire:chat:${user}:${key}`) : localStorage.setItem(`everywire:chat:${user}:${key}`, value)));
  },
});

/** The user that a token is for; the server has the last word. */
function userOf() {
  return attempt(() => JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(token.value.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0)))).sub) ?? '';
}

/** Does something until the network and the server let it, unless the user changes. @template T @param {() => Promise<T>} act */
function persist(act) {
  const mine = client;
  return lasting(act, () => client !== mine, (error) => { if (!isReady.value) trouble.value = reasonOf(error); });
}

/** Begins anew with the present token. */
export async function begin() {
  client?.close();
  client = undefined;
  latest = undefined;
  batch(() => {
    [talks.value, me.value, isReady.value, trouble.value] = [[], userOf(), false, ''];
    waiting.value = { count: 0, reason: '' };
  });
  if (!token.value) return;
  const store = storeOf(me.value);
  // The outbox is this user's: messages that another user of this browser has left are theirs to send.
  const outbox = { store: { get: async (/** @type {string} */ key) => store.get(key), set: async (/** @type {string} */ key, /** @type {string | null} */ value) => store.set(key, value) } };
  const mine = connect({ session: true, outbox });
  client = mine;
  rooms = new Rooms(mine);
  listen(mine);
  try {
    const { paths } = await persist(async () => (await ask('openapi.json')).json());
    if (client !== mine) return;
    can.value = {
      conversations: '/v1/conversations' in paths, change: 'patch' in (paths['/v1/messages/{id}'] ?? {}),
      react: '/v1/messages/{id}/reactions/{key}' in paths, signals: '/v1/conversations/{conversation}/typing' in paths, block: '/v1/blocked/{user}' in paths,
    };
    if (can.value.signals) rooms.follow(() => {});
    if (can.value.conversations) mine.subscribe(`user/${level(me.value)}`, (message) => letter(message));
    await Promise.all([refresh(), refreshBlocked()]);
    if (client === mine) [isReady.value, trouble.value] = [true, ''];
  } catch (error) {
    if (client === mine) trouble.value = reasonOf(error);
  }
}

/** @param {Everywire} mine */
function listen(mine) {
  mine.on('state', ({ state, wire, reason }) => {
    const isOff = state === 'waiting' || state === 'refused';
    line.value = { state, wire, reason, since: isOff ? line.value.since || Date.now() : 0 };
    if (state === 'open') look();
    // Signals pass: what was told since the last question, and before the wire ran, is asked for.
    if (state === 'open' && latest) refresh().catch(() => {});
  });
  mine.on('outbox', ({ waiting: count, reason = '' }) => { waiting.value = { count, reason: count > 0 ? reason : '' }; });
  mine.on('problem', (problem) => {
    const talk = talks.value.find(({ target }) => target === problem.topic);
    if (talk && talk.kind === 'room' && (problem.status === 403 || problem.status === 404)) talk.ended.value = problem.reason;
    else if (!problem.isPassing) trouble.value = problem.reason;
  });
  mine.on('gap', ({ topic, earliest }) => {
    for (const talk of talks.value) if (topic.split(' ').includes(talk.topic)) talk.gap(earliest);
  });
  mine.on('signal', (said) => {
    const { kind, user, conversation } = said;
    const about = talks.value.find((talk) => talk.conversation === conversation);
    if (kind === 'role') { if (about) recheck(about); }
    else if (conversation.startsWith('user/') && (kind === 'here' || kind === 'away' || kind === 'left')) presentAs([{ user, presence: kind, seen: new Date().toISOString() }], news.tell(`presence ${user}`));
    else about?.signal(said);
  });
  mine.on('conversation', (one) => {
    const talk = talks.value.find(({ conversation }) => conversation === one.conversation);
    news.tell(one.conversation);
    if (talk) talk.settle(one);
    else refresh().catch(() => {});
  });
}

/** What was told last of what: an answer to an older question doesn't take its place. */
export const news = {
  now: 0,
  /** @type {Map<string, number>} */
  last: new Map(),
  /** @param {string} about */
  tell(about) {
    this.last.set(about, this.now += 1);
    return this.now;
  },
  /** Whether an answer is new to a question that was asked at this place. @param {string} about @param {number} asked */
  isNew(about, asked) {
    return (this.last.get(about) ?? 0) <= asked;
  },
};

/** Who of the users is there. @type {import('../vendor/ui.js').Signal<Map<string, { presence: string, seen?: string }>>} */
export const presence = signal(new Map());

/** @param {{ user: string, presence?: string, seen?: string }[]} users @param {number} asked  The place of the question in the news. */
export function presentAs(users, asked) {
  const next = new Map(presence.value);
  for (const { user, presence, seen } of users) {
    if (!news.isNew(`presence ${user}`, asked)) continue;
    if (presence) next.set(user, { presence, seen });
    else next.delete(user);
  }
  presence.value = next;
}

/** Tells whether somebody looks at this window. */
function look() {
  if (can.value.signals) rooms.active(!document.hidden);
}
document.addEventListener('visibilitychange', () => { if (client) look(); });

/** The last refresh of this user; one that was begun before it lets it do its work. @type {Promise<void> | undefined} */
let latest;

/** Asks for the rooms of the user, opens the new ones, and lets go of those that are no more. */
export function refresh() {
  /** @type {Promise<void>} */
  const own = refreshUnless(() => own !== latest);
  latest = own;
  return own;
}

/** @param {() => boolean} isOld  Whether a later refresh has begun: then the answer may be older than what is known. @returns {Promise<void>} */
async function refreshUnless(isOld) {
  const found = /** @type {import('../sdk/rooms.js').Room[]} */ ([]);
  for (let after = /** @type {string | undefined} */ (undefined), isMore = true; isMore && found.length < ROOMS_MOST;) {
    const page = await persist(() => rooms.list('mine', after));
    if (isOld()) return latest;
    found.push(...page.rooms.filter(({ role }) => role !== 'invited' && role !== 'banned'));
    [after, isMore] = [page.rooms.at(-1)?.room, page.more];
  }
  const known = new Map(talks.value.map((talk) => [talk.conversation, talk]));
  const fresh = found.filter(({ topic }) => !known.has(topic)).map((room) => make({ kind: 'room', name: room.room, conversation: room.topic, topic: room.topic, target: room.topic }, room));
  for (const room of found) {
    const talk = known.get(room.topic);
    if (talk) talk.room.value = { ...talk.room.value, ...room };
  }
  const isOver = (/** @type {Talk} */ talk) => found.length < ROOMS_MOST && talk.kind === 'room' && talk !== open.value && !found.some(({ topic }) => topic === talk.topic);
  for (const talk of talks.value) if (isOver(talk)) talk.close();
  talks.value = [...talks.value.filter((talk) => !isOver(talk)), ...fresh];
  const conversations = await settle();
  await Promise.all(fresh.map((talk) => enter(talk, conversations.find(({ conversation }) => conversation === talk.conversation))));
}

/** Takes over the server's state of the conversations: marks of other devices too, and the exchanges with other users. */
async function settle() {
  if (!can.value.conversations) return [];
  const [mine, asked] = [client, news.now];
  const { conversations } = await persist(() => rooms.conversations());
  if (client !== mine) return [];
  presentAs(conversations.filter(({ conversation }) => conversation.startsWith('user/'))
    .map(({ conversation, presence, seen }) => ({ user: decodeURIComponent(conversation.slice(5)), presence, seen })), asked);
  await Promise.all(conversations.map(async (one) => {
    const { conversation } = one;
    const talk = talks.value.find((talk) => talk.conversation === conversation);
    if (talk?.isLoaded.value && news.isNew(conversation, asked)) talk.settle(one);
    else if (!talk && conversation.startsWith('user/')) await exchange(decodeURIComponent(conversation.slice(5)), one);
  }));
  return conversations;
}

/** The exchange with a user. @param {string} user @param {import('../sdk/rooms.js').Conversation} [said] */
export async function exchange(user, said) {
  const conversation = `user/${level(user)}`;
  const known = talks.value.find((talk) => talk.conversation === conversation);
  if (known) return known;
  const topic = `user/${level(me.value)}`;
  const may = { read: true, talk: true, join: false, invite: false, moderate: false };
  const talk = make({ kind: 'user', name: user, conversation, topic, target: conversation }, { room: user, topic, title: '', join: 'members', may });
  talks.value = [...talks.value, talk];
  await enter(talk, said);
  return talk;
}

/** The users from whom this user takes nothing. */
export const blocked = signal(/** @type {Set<string>} */ (new Set()));

/** @param {string} user @param {boolean} isOn */
export async function block(user, isOn) {
  await persist(() => rooms.block(user, isOn));
  await refreshBlocked();
}

async function refreshBlocked() {
  if (!can.value.block) return;
  const [mine, asked] = [client, news.tell('blocked')];
  const list = await persist(() => rooms.blocked());
  if (client === mine && news.isNew('blocked', asked)) blocked.value = new Set(list.blocked);
}

/** Changes what this user wants of a conversation, which shows at once. @param {Talk} talk @param {Partial<Talk['own']['value']>} wish */
export async function want(talk, wish) {
  const before = talk.own.value;
  talk.own.value = { ...before, ...wish };
  news.tell(talk.conversation);
  try {
    const own = await persist(() => rooms.settings(talk.conversation, wish));
    news.tell(talk.conversation);
    talk.settle(own);
  } catch (error) {
    talk.own.value = before;
    throw error;
  }
}

/** Rooms that the user is invited to, and who invited. */
export const invitations = signal(/** @type {{ room: string, title: string, from: string }[]} */ ([]));

/** Takes a message of the inbox. @param {import('../sdk/types.js').Message<any>} message */
function letter({ event = 'chat', from, nick, body }) {
  if (event === 'chat' && from && from !== me.value) settle().catch(() => {});
  else if (event === 'invite' && body?.room) {
    invitations.value = [...invitations.value.filter(({ room }) => room !== body.room), { room: body.room, title: body.title || body.room, from: nick ?? from ?? '' }];
  }
}

/** @param {import('./talk.js').Place} place @param {import('../sdk/rooms.js').Room} room */
function make(place, room) {
  return new Talk(place, room, {
    client: /** @type {Everywire} */ (client), me: me.value, store: storeOf(me.value), canFold: () => can.value.change, nameOf: anyNick, called,
    heard: (talk, lines) => heard(talk, lines), met: (talk, user) => met(talk, user), marked: (talk, cursor) => mark(talk, cursor), came: (talk, cursor) => came(talk, cursor), refused: (talk) => recheck(talk),
  });
}

/** @param {Talk} talk @param {import('../sdk/rooms.js').Conversation} [said] */
async function enter(talk, said) {
  try {
    await persist(() => talk.open(said));
    if (said) talk.settle(said);
    if (talk.kind === 'user') {
      if (talk.last && talk.unread.value > 0) came(talk, talk.last.cursor);
      return;
    }
    const room = await persist(() => rooms.get(talk.name));
    talk.room.value = { ...talk.room.value, ...room };
  } catch (error) {
    talk.ended.value = reasonOf(error);
  }
}

/** @type {Map<string, any>} */
const marking = new Map();

/** Tells the server the last line that was seen, at most once in a moment. @param {Talk} talk @param {string} cursor */
function mark(talk, cursor) {
  if (!can.value.conversations) return;
  clearTimeout(marking.get(talk.conversation));
  marking.set(talk.conversation, setTimeout(() => {
    persist(() => rooms.read(talk.conversation, cursor)).then(({ read }) => talk.read(read), () => {});
  }, 300));
}

/** Tells the other user that a line has come here, unless it is read at once. @param {Talk} talk @param {string} cursor */
function came(talk, cursor) {
  if (!can.value.signals) return;
  clearTimeout(coming.get(talk.conversation));
  coming.set(talk.conversation, setTimeout(() => {
    if (!(distance(cursor, talk.mark) <= 0)) rooms.received(talk.conversation, cursor).catch(() => {});
  }, RECEIVED_MS));
}

/** @type {Map<string, any>} */
const coming = new Map();

/** Asks whether the user may still read a room, since something of it was refused. @param {Talk} talk */
export async function recheck(talk) {
  if (talk.kind !== 'room' || talk.ended.value) return;
  try {
    const room = await persist(() => rooms.get(talk.name));
    talk.room.value = { ...talk.room.value, role: undefined, ...room };
    if (room.may?.read === false) talk.ended.value = t(room.role === 'banned' ? 'chat.banned' : 'chat.removed');
  } catch (error) {
    if ([403, 404].includes(/** @type {any} */ (error).status)) talk.ended.value = reasonOf(error);
  }
}

/** The name that was given at the door, if one was. */
export const ownNick = () => attempt(() => localStorage.getItem(NAME)) ?? undefined;

/** Names by room and user. */
export const nicks = signal(/** @type {Map<string, string>} */ (new Map()));

/** The name of a user in a conversation. @param {Talk} talk @param {string} user */
export const nickOf = ({ kind, topic }, user) => (kind === 'user' ? anyNick(user) : nicks.value.get(`${topic} ${user}`) ?? user);

/** The name of a user in any of the rooms. @param {string} user */
function anyNick(user) {
  for (const [key, nick] of nicks.value) if (key.endsWith(` ${user}`)) return nick;
  return user;
}

/** @param {string} topic @param {{ user: string, as?: string, nick?: string }[]} members */
function named(topic, members) {
  const next = new Map(nicks.value);
  for (const { user, as = user, nick } of members) if (nick) next.set(`${topic} ${user}`, nick).set(`${topic} ${as}`, nick);
  nicks.value = next;
}

/** Takes over what the server says of the members of a room: their names, and how far they have read. @param {Talk} talk @param {import('../sdk/rooms.js').Member[]} members */
export function known(talk, members) {
  named(talk.topic, members);
  for (const { user, as = user, read } of members) if (read) talk.signal({ kind: 'read', user: as, cursor: read });
}

/** A message says the nick of somebody who may be no member. @param {Talk} talk @param {string} user @param {string} nick */
function called({ topic }, user, nick) {
  if (!nicks.value.has(`${topic} ${user}`)) named(topic, [{ user, nick }]);
}

/** @type {(talk: Talk, lines: import('./talk.js').Line[]) => void} */
let heard = () => {};
/** @type {(talk: Talk, user: string) => void} */
let met = () => {};
/** Sets the page's functions for new lines and for users who act. @param {typeof heard} first @param {typeof met} second */
export const onNews = (first, second) => { [heard, met] = [first, second]; };

/** The conversations: the pinned ones first, then the ones with the newest lines. */
export const sorted = computed(() => talks.value.toSorted((a, b) => {
  const [x, y] = [a.last, b.last];
  if (a.own.value.pinned !== b.own.value.pinned) return a.own.value.pinned ? -1 : 1;
  return y && x ? distance(y.cursor, x.cursor) || y.at - x.at : Number(Boolean(y)) - Number(Boolean(x));
}));

/** Makes a room from a title, and returns its name; a name that is taken gets an end of its own. @param {string} title @param {string} [nick] */
export async function found(title, nick) {
  const slug = title.normalize('NFC').toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '').slice(0, 24) || 'room';
  for (let name = slug; ; name = `${slug}-${crypto.randomUUID().slice(0, 4)}`) {
    try {
      await rooms.found(name, { title, listed: true });
      if (nick) await rooms.join(name, { nick });
      await refresh();
      return name;
    } catch (error) {
      if (/** @type {any} */ (error).status !== 409 || name !== slug) throw error;
    }
  }
}

/** @param {string} room @param {string} [nick] @param {string} [password] */
export async function join(room, nick, password) {
  await rooms.join(room, { nick, password }).catch((error) => {
    // The name is taken: the user then has the id as the name.
    if (error.status === 409 && nick) return rooms.join(room, { password });
    throw error;
  });
  await refresh();
}

/** @param {Talk} talk */
export async function leave(talk) {
  await rooms.leave(talk.name);
  talk.close();
  talks.value = talks.value.filter((one) => one !== talk);
  refresh().catch(() => {});
}

/** The address of a room, for others. @param {string} room */
export const linkTo = (room) => new URL(`chat${addressOf({ kind: 'room', name: room })}`, base).href;
