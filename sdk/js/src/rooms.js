/**
 * Rooms and conversations (docs/rooms.md) on top of a client: `new Rooms(client)`. Messages themselves are read and published with
 * the client, on the topic `room/R`.
 *
 * @import { Everywire } from './client.js'
 * @import { Message, Published, SubscribeOptions } from './types.js'
 */

/** The server lets each user's typing through once in this time. */
const TYPING_MS = 3000;

/**
 * @typedef {object} Room
 * @property {string} room
 * @property {string} topic
 * @property {string} title
 * @property {string} [about]
 * @property {string} [subject]
 * @property {string} join  `open`, `members` or `password`.
 * @property {'all' | 'admins'} [see]  With `admins` all others see aliases in place of users.
 * @property {string} [as]  The caller's alias there: own messages come under it.
 * @property {string[]} [owners]
 * @property {number} [members]
 * @property {string} [role]  The caller's; absent if there is none.
 * @property {string} [nick]
 * @property {{ read: boolean, talk: boolean, join: boolean, invite: boolean, moderate: boolean }} [may]
 *
 * @typedef {object} Member
 * @property {string} user  An alias, where the room hides its users from the caller.
 * @property {string} [as]  The alias, where the room hides its users and `user` is none.
 * @property {string} role  `owner`, `admin`, `member`, `invited` or `banned`.
 * @property {string} [nick]
 * @property {string} [since]
 * @property {'here' | 'away' | 'left'} [presence]  Absent if it isn't for the caller to know.
 * @property {string} [seen]  The time since when it is so.
 * @property {string[]} [wires]  The wires over which the user is connected.
 * @property {string} [read]  The position up to which the member has read.
 *
 * @typedef {object} Conversation  The caller's side of a room or of an exchange with another user.
 * @property {string} conversation  `room/R` or `user/P`.
 * @property {string} title
 * @property {string} [as]  The caller's alias, in a room that hides its users.
 * @property {number} unread  Up to 1,000; `exact` is false beyond.
 * @property {boolean} exact
 * @property {number} mentions
 * @property {string} [read]  The mark.
 * @property {Message<any>} [last]
 * @property {boolean} muted
 * @property {boolean} pinned
 * @property {boolean} archived
 * @property {string} notify
 * @property {'here' | 'away' | 'left'} [presence]  Of the other user.
 * @property {string} [seen]
 * @property {string[]} [wires]
 * @property {string} [theirs]  The position up to which the other user has read.
 */

/** @param {string} name */
const level = (name) => encodeURIComponent(name);

export class Rooms {
  #client;
  /** The time at which typing was last sent, by conversation. @type {Map<string, number>} */
  #typed = new Map();

  /** @param {Everywire} client */
  constructor(client) {
    this.#client = client;
  }

  /**
   * @param {string} method @param {string} path @param {any} [body] @param {Record<string, any>} [query]
   * @returns {Promise<any>}
   */
  async #ask(method, path, body, query) {
    const headers = body === undefined ? undefined : { 'Content-Type': 'application/json' };
    const response = await this.#client.ask(`v1/${path}`, query, { method, headers, body: body && JSON.stringify(body) });
    return response.json();
  }

  /** The rooms of the caller, or all that are listed. @param {'mine' | 'listed'} which @param {string} [after] @returns {Promise<{ rooms: Room[], more: boolean }>} */
  list(which, after) {
    return this.#ask('GET', 'rooms', undefined, { ...(which === 'mine' ? { member: 'me' } : { listed: 1 }), after });
  }

  /** @param {string} room @returns {Promise<Room>} */
  get(room) {
    return this.#ask('GET', `rooms/${level(room)}`);
  }

  /** Founds a room; the caller owns it. @param {string} room @param {Partial<Room> & Record<string, any>} [head] @returns {Promise<Room>} */
  found(room, head = {}) {
    return this.#ask('PUT', `rooms/${level(room)}`, head);
  }

  /** @param {string} room @param {Partial<Room> & Record<string, any>} head @returns {Promise<Room>} */
  change(room, head) {
    return this.#ask('PATCH', `rooms/${level(room)}`, head);
  }

  /** @param {string} room */
  end(room) {
    return this.#ask('DELETE', `rooms/${level(room)}`);
  }

  /** @param {string} room @param {{ nick?: string, password?: string }} [how] @returns {Promise<Member & { topic: string, cursor: string }>} */
  join(room, how = {}) {
    return this.#ask('POST', `rooms/${level(room)}/join`, how);
  }

  /** @param {string} room */
  leave(room) {
    return this.#ask('POST', `rooms/${level(room)}/leave`, {});
  }

  /** @param {string} room @param {string} user */
  invite(room, user) {
    return this.#ask('POST', `rooms/${level(room)}/invites`, { user });
  }

  /** @param {string} room @param {{ after?: string, limit?: number, role?: string }} [which] @returns {Promise<{ members: Member[], more: boolean }>} */
  members(room, which) {
    return this.#ask('GET', `rooms/${level(room)}/members`, undefined, which);
  }

  /** Gives a role; `null` ends a membership, a ban or an invitation. @param {string} room @param {string} user @param {string | null} role */
  role(room, user, role) {
    const path = `rooms/${level(room)}/members/${level(user)}`;
    return role === null ? this.#ask('DELETE', path) : this.#ask('PUT', path, { role });
  }

  /** The users who are in the room now. @param {string} room @param {{ after?: string, limit?: number }} [which] @returns {Promise<{ occupants: { user: string, nick: string, voice: string, connections: number }[], more: boolean }>} */
  occupants(room, which) {
    return this.#ask('GET', `rooms/${level(room)}/occupants`, undefined, which);
  }

  /** @param {{ unread?: boolean, after?: string, limit?: number }} [which] @returns {Promise<{ conversations: Conversation[], cursor: string, more: boolean }>} */
  conversations({ unread, ...which } = {}) {
    return this.#ask('GET', 'conversations', undefined, { ...which, unread: unread ? 1 : undefined });
  }

  /** Sets the read mark, which only rises. @param {string} conversation @param {string} cursor @returns {Promise<{ read: string, unread: number, mentions: number }>} */
  read(conversation, cursor) {
    return this.#ask('PUT', `conversations/${level(conversation)}/read`, { cursor });
  }

  /** @param {string} conversation @param {{ muted?: boolean, pinned?: boolean, archived?: boolean, notify?: string }} settings @returns {Promise<Conversation>} */
  settings(conversation, settings) {
    return this.#ask('PATCH', `conversations/${level(conversation)}`, settings);
  }

  /** Whom this user takes nothing from. @returns {Promise<{ blocked: string[] }>} */
  blocked() {
    return this.#ask('GET', 'blocked');
  }

  /** @param {string} user @param {boolean} [isOn] */
  block(user, isOn = true) {
    return this.#ask(isOn ? 'PUT' : 'DELETE', `blocked/${level(user)}`);
  }

  /** @param {string} id @param {string} body @returns {Promise<Published>} */
  edit(id, body) {
    return this.#ask('PATCH', `messages/${id}`, { body });
  }

  /** @param {string} id @returns {Promise<Published>} */
  recall(id) {
    return this.#ask('DELETE', `messages/${id}`);
  }

  /** @param {string} id @param {string} key @param {boolean} [isOn] @returns {Promise<Published>} */
  react(id, key, isOn = true) {
    return this.#ask(isOn ? 'PUT' : 'DELETE', `messages/${id}/reactions/${level(key)}`);
  }

  /** @param {string} conversation @returns {Promise<Conversation>} */
  conversation(conversation) {
    return this.#ask('GET', `conversations/${level(conversation)}`);
  }

  /** Tells the other user that their messages have come to a device. @param {string} conversation @param {string} cursor @returns {Promise<unknown>} */
  received(conversation, cursor) {
    return this.#ask('PUT', `conversations/${level(conversation)}/received`, { cursor });
  }

  /**
   * Follows everything of the caller's: the inbox and all rooms, also those joined later. The client's events `signal` and
   * `conversation` then tell what passes and what changes.
   * @template [T=unknown]
   * @param {(message: Message<T>) => unknown} [handle] @param {SubscribeOptions} [options]
   */
  follow(handle, options) {
    return this.#client.subscribe('$conversations', handle, options);
  }

  /** Tells whether somebody looks at this device; over WebSocket. @param {boolean} isActive */
  active(isActive) {
    this.#client.send({ active: { active: isActive } });
  }

  /** Tells that this user types, not more often than the server lets it through. @param {string} conversation */
  typing(conversation) {
    const now = Date.now();
    if (now - (this.#typed.get(conversation) ?? 0) < TYPING_MS) return;
    this.#typed.set(conversation, now);
    if (this.#client.wire === 'ws') this.#client.send({ typing: { conversation } });
    else this.#ask('POST', `conversations/${level(conversation)}/typing`).catch(() => {});
  }
}
