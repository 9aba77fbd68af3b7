/**
 * The types that the client shows; this file has no code.
 *
 * @typedef {'ws' | 'sse' | 'longpoll' | 'poll'} Wire
 * @typedef {'idle' | 'connecting' | 'open' | 'waiting' | 'refused' | 'closed'} State
 *
 * @typedef {object} Store  A store that outlives the page. Both functions may fail: the client then goes on in memory.
 * @property {(key: string) => Promise<string | null>} get
 * @property {(key: string, value: string | null) => Promise<void>} set  `null` removes.
 *
 * @typedef {(why: 'start' | 'expiring' | 'refused') => Promise<string>} TokenSource
 *
 * @typedef {object} Options
 * @property {Wire[]} [wires]  The wires to try, the best first.
 * @property {number} [probeMs]  The time in which a wire must bring an answer before it counts as broken; 3,000.
 * @property {number} [pollMs]  The pause between two short polls; 1,000.
 * @property {string} [device]  The name of this device; needs a token.
 * @property {boolean} [session]  Over WebSocket messages come again until they were handled here, and the server knows
 *   that they were: `explain` shows it. On the other wires the cursor alone ensures that nothing is lost.
 * @property {string} [label]  128 random bits as text: `GET /v1/lab?label=` then counts the cost of this client.
 * @property {string | TokenSource} [token]  A function is asked once at a time: at the start, before the token ends, after a 401.
 * @property {false | { store?: Store, max?: number, ttlMs?: number }} [outbox]  The messages that wait to be published: at most
 *   `max` (1,000) messages, each for `ttlMs` (a day; at most 7 days). `false` publishes at once or fails.
 * @property {false | Store} [cursors]  The store of the cursors of subscriptions with a `name`; the browser's storage unless given.
 * @property {boolean} [share]  One connection for all tabs of this browser.
 * @property {typeof fetch} [fetch]
 * @property {any} [WebSocket]  A class like the browser's; Node 20 has none of its own.
 * @property {number} [verdictMs]  The time for which a broken wire is left out before it is tried again behind the running one; 10 minutes.
 * @property {[first: number, most: number]} [retryMs]  The pause before trying again: it doubles from the first to the most.
 * @property {() => number} [now]  The clock, in milliseconds.
 *
 * @typedef {object} Problems  The fields of a {@link Problem}.
 * @property {number} status
 * @property {string} reason
 *
 * @typedef {object} Gap  Messages above `after` are lost; reading goes on at `earliest`.
 * @property {string} topic
 * @property {string} [after]
 * @property {string} earliest
 *
 * @typedef {object} Published
 * @property {string} id  Empty for a duplicate of which the server doesn't know the id any more.
 * @property {string} cursor
 * @property {'fsync' | 'replicated' | 'memory' | 'none'} durability
 * @property {boolean} [duplicate]  It had come before.
 *
 * @typedef {object} PublishOptions
 * @property {string} [event]
 * @property {string} [type]  The media type; text for strings, JSON for all else but bytes.
 * @property {string} [key]  An idempotency key of your own; the message then doesn't go through the outbox.
 * @property {number} [ttl]  Seconds.
 * @property {boolean} [retain]
 * @property {string} [ref]  The id of the message that it answers.
 * @property {boolean} [queue]  `false`: at once or fail.
 * @property {AbortSignal} [signal]  Takes a message back that wasn't sent yet.
 *
 * @typedef {object} SubscribeOptions
 * @property {string} [after]  A cursor, `earliest`, or `latest` (the default).
 * @property {string} [name]  Keeps the cursor under this name: the next start goes on there.
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} Presence
 * @property {{ user: string, devices: string[] }[]} users
 * @property {number} anonymous
 *
 * @typedef {object} Signal  An event that isn't kept: a client that was away doesn't get it later. Over WebSocket and SSE.
 * @property {string} conversation  `room/R` or `user/P`.
 * @property {'typing' | 'read' | 'received' | 'entered' | 'left' | 'here' | 'away' | 'role'} kind
 * @property {string} user
 * @property {string} [nick]  Of a user who enters or leaves a room.
 * @property {string} [cursor]  The position up to which the user has read.
 * @property {'owner' | 'admin' | 'member' | 'invited' | 'banned' | 'none'} [role]  One's own in a room, when that has changed.
 *
 * @typedef {object} StateEvent
 * @property {State} state
 * @property {Wire} [wire]
 * @property {string} [reason]
 * @property {number} [retryMs]  The time until the next try.
 *
 * @typedef {object} Events
 * @property {StateEvent} state
 * @property {Gap} gap
 * @property {import('./shared.js').Problem} problem
 * @property {{ waiting: number, reason?: string }} outbox  `reason` says why the last try to send them failed.
 * @property {Signal} signal
 * @property {any} conversation  One of the user's own conversations changed; `everywire/rooms` reads it.
 */

/**
 * @template [T=unknown]
 * @typedef {object} Message
 * @property {string} id
 * @property {string} topic
 * @property {string} cursor
 * @property {string} time
 * @property {string} [from]  The user who published it, or an alias.
 * @property {string} [nick]  The nick of the author, if `from` is an alias.
 * @property {string} [to]  Of the copy in the sender's own inbox: to whom it was sent.
 * @property {string} [event]
 * @property {string} [ref]  The id of the message that it answers or changes.
 * @property {string} [type]
 * @property {T} body  A string, or the value of the JSON; `undefined` where there are `bytes`.
 * @property {Uint8Array} [bytes]  The body, if it is neither text nor JSON.
 * @property {true} [retained]
 */

/**
 * @template [T=unknown]
 * @typedef {object} Page
 * @property {Message<T>[]} messages  Oldest first.
 * @property {string} cursor
 * @property {string} [before]  The cursor at which the page before this one ends.
 * @property {boolean} gap
 * @property {boolean} more
 */

/**
 * @template [T=unknown]
 * @typedef {object} Subscribed
 * @property {string | undefined} cursor  Everything up to here was handled.
 * @property {Promise<void>} ready  Settles when the server has confirmed, or refused, the subscription.
 * @property {() => void} close
 */

/**
 * @template [T=unknown]
 * @typedef {Subscribed<T> & AsyncIterable<Message<T>>} Subscription
 */

export {};
