/**
 * The types that the client shows; this file has no code.
 */
export type Wire = "ws" | "sse" | "longpoll" | "poll";
/**
 * The types that the client shows; this file has no code.
 */
export type State = "idle" | "connecting" | "open" | "waiting" | "refused" | "closed";
/**
 * A store that outlives the page. Both functions may fail: the client then goes on in memory.
 */
export type Store = {
    get: (key: string) => Promise<string | null>;
    /**
     * `null` removes.
     */
    set: (key: string, value: string | null) => Promise<void>;
};
/**
 * The types that the client shows; this file has no code.
 */
export type TokenSource = (why: "start" | "expiring" | "refused") => Promise<string>;
/**
 * The types that the client shows; this file has no code.
 */
export type Options = {
    /**
     * The wires to try, the best first.
     */
    wires?: Wire[] | undefined;
    /**
     * The time in which a wire must bring an answer before it counts as broken; 3,000.
     */
    probeMs?: number | undefined;
    /**
     * The pause between two short polls; 1,000.
     */
    pollMs?: number | undefined;
    /**
     * The name of this device; needs a token.
     */
    device?: string | undefined;
    /**
     * Over WebSocket messages come again until they were handled here, and the server knows
     * that they were: `explain` shows it. On the other wires the cursor alone ensures that nothing is lost.
     */
    session?: boolean | undefined;
    /**
     * 128 random bits as text: `GET /v1/lab?label=` then counts the cost of this client.
     */
    label?: string | undefined;
    /**
     * A function is asked once at a time: at the start, before the token ends, after a 401.
     */
    token?: string | TokenSource | undefined;
    /**
     * The messages that wait to be published: at most
     * `max` (1,000) messages, each for `ttlMs` (a day; at most 7 days). `false` publishes at once or fails.
     */
    outbox?: false | {
        store?: Store;
        max?: number;
        ttlMs?: number;
    } | undefined;
    /**
     * The store of the cursors of subscriptions with a `name`; the browser's storage unless given.
     */
    cursors?: false | Store | undefined;
    /**
     * One connection for all tabs of this browser.
     */
    share?: boolean | undefined;
    fetch?: typeof fetch | undefined;
    /**
     * A class like the browser's; Node 20 has none of its own.
     */
    WebSocket?: any;
    /**
     * The time for which a broken wire is left out before it is tried again behind the running one; 10 minutes.
     */
    verdictMs?: number | undefined;
    /**
     * The pause before trying again: it doubles from the first to the most.
     */
    retryMs?: [first: number, most: number] | undefined;
    /**
     * The clock, in milliseconds.
     */
    now?: (() => number) | undefined;
};
/**
 * The fields of a {@link Problem}.
 */
export type Problems = {
    status: number;
    reason: string;
};
/**
 * Messages above `after` are lost; reading goes on at `earliest`.
 */
export type Gap = {
    topic: string;
    after?: string | undefined;
    earliest: string;
};
/**
 * The types that the client shows; this file has no code.
 */
export type Published = {
    /**
     * Empty for a duplicate of which the server doesn't know the id any more.
     */
    id: string;
    cursor: string;
    durability: "fsync" | "replicated" | "memory" | "none";
    /**
     * It had come before.
     */
    duplicate?: boolean | undefined;
};
/**
 * The types that the client shows; this file has no code.
 */
export type PublishOptions = {
    event?: string | undefined;
    /**
     * The media type; text for strings, JSON for all else but bytes.
     */
    type?: string | undefined;
    /**
     * An idempotency key of your own; the message then doesn't go through the outbox.
     */
    key?: string | undefined;
    /**
     * Seconds.
     */
    ttl?: number | undefined;
    retain?: boolean | undefined;
    /**
     * The id of the message that it answers.
     */
    ref?: string | undefined;
    /**
     * `false`: at once or fail.
     */
    queue?: boolean | undefined;
    /**
     * Takes a message back that wasn't sent yet.
     */
    signal?: AbortSignal | undefined;
};
/**
 * The types that the client shows; this file has no code.
 */
export type SubscribeOptions = {
    /**
     * A cursor, `earliest`, or `latest` (the default).
     */
    after?: string | undefined;
    /**
     * Keeps the cursor under this name: the next start goes on there.
     */
    name?: string | undefined;
    signal?: AbortSignal | undefined;
};
/**
 * The types that the client shows; this file has no code.
 */
export type Presence = {
    users: {
        user: string;
        devices: string[];
    }[];
    anonymous: number;
};
/**
 * An event that isn't kept: a client that was away doesn't get it later. Over WebSocket and SSE.
 */
export type Signal = {
    /**
     * `room/R` or `user/P`.
     */
    conversation: string;
    kind: "typing" | "read" | "received" | "entered" | "left" | "here" | "away" | "role";
    user: string;
    /**
     * Of a user who enters or leaves a room.
     */
    nick?: string | undefined;
    /**
     * The position up to which the user has read.
     */
    cursor?: string | undefined;
    /**
     * One's own in a room, when that has changed.
     */
    role?: "none" | "owner" | "admin" | "member" | "invited" | "banned" | undefined;
};
/**
 * The types that the client shows; this file has no code.
 */
export type StateEvent = {
    state: State;
    wire?: Wire | undefined;
    reason?: string | undefined;
    /**
     * The time until the next try.
     */
    retryMs?: number | undefined;
};
/**
 * The types that the client shows; this file has no code.
 */
export type Events = {
    state: StateEvent;
    gap: Gap;
    problem: import("./shared.js").Problem;
    /**
     * `reason` says why the last try to send them failed.
     */
    outbox: {
        waiting: number;
        reason?: string;
    };
    signal: Signal;
    /**
     * One of the user's own conversations changed; `everywire/rooms` reads it.
     */
    conversation: any;
};
export type Message<T = unknown> = {
    id: string;
    topic: string;
    cursor: string;
    time: string;
    /**
     * The user who published it, or an alias.
     */
    from?: string | undefined;
    /**
     * The nick of the author, if `from` is an alias.
     */
    nick?: string | undefined;
    /**
     * Of the copy in the sender's own inbox: to whom it was sent.
     */
    to?: string | undefined;
    event?: string | undefined;
    /**
     * The id of the message that it answers or changes.
     */
    ref?: string | undefined;
    type?: string | undefined;
    /**
     * A string, or the value of the JSON; `undefined` where there are `bytes`.
     */
    body: T;
    /**
     * The body, if it is neither text nor JSON.
     */
    bytes?: Uint8Array<ArrayBufferLike> | undefined;
    retained?: true | undefined;
};
export type Page<T = unknown> = {
    /**
     * Oldest first.
     */
    messages: Message<T>[];
    cursor: string;
    /**
     * The cursor at which the page before this one ends.
     */
    before?: string | undefined;
    gap: boolean;
    more: boolean;
};
export type Subscribed<T = unknown> = {
    /**
     * Everything up to here was handled.
     */
    cursor: string | undefined;
    /**
     * Settles when the server has confirmed, or refused, the subscription.
     */
    ready: Promise<void>;
    close: () => void;
};
export type Subscription<T = unknown> = Subscribed<T> & AsyncIterable<Message<T>>;
