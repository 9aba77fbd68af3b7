export class Rooms {
    /** @param {Everywire} client */
    constructor(client: Everywire);
    /** The rooms of the caller, or all that are listed. @param {'mine' | 'listed'} which @param {string} [after] @returns {Promise<{ rooms: Room[], more: boolean }>} */
    list(which: "mine" | "listed", after?: string): Promise<{
        rooms: Room[];
        more: boolean;
    }>;
    /** @param {string} room @returns {Promise<Room>} */
    get(room: string): Promise<Room>;
    /** Founds a room; the caller owns it. @param {string} room @param {Partial<Room> & Record<string, any>} [head] @returns {Promise<Room>} */
    found(room: string, head?: Partial<Room> & Record<string, any>): Promise<Room>;
    /** @param {string} room @param {Partial<Room> & Record<string, any>} head @returns {Promise<Room>} */
    change(room: string, head: Partial<Room> & Record<string, any>): Promise<Room>;
    /** @param {string} room */
    end(room: string): Promise<any>;
    /** @param {string} room @param {{ nick?: string, password?: string }} [how] @returns {Promise<Member & { topic: string, cursor: string }>} */
    join(room: string, how?: {
        nick?: string;
        password?: string;
    }): Promise<Member & {
        topic: string;
        cursor: string;
    }>;
    /** @param {string} room */
    leave(room: string): Promise<any>;
    /** @param {string} room @param {string} user */
    invite(room: string, user: string): Promise<any>;
    /** @param {string} room @param {{ after?: string, limit?: number, role?: string }} [which] @returns {Promise<{ members: Member[], more: boolean }>} */
    members(room: string, which?: {
        after?: string;
        limit?: number;
        role?: string;
    }): Promise<{
        members: Member[];
        more: boolean;
    }>;
    /** Gives a role; `null` ends a membership, a ban or an invitation. @param {string} room @param {string} user @param {string | null} role */
    role(room: string, user: string, role: string | null): Promise<any>;
    /** The users who are in the room now. @param {string} room @param {{ after?: string, limit?: number }} [which] @returns {Promise<{ occupants: { user: string, nick: string, voice: string, connections: number }[], more: boolean }>} */
    occupants(room: string, which?: {
        after?: string;
        limit?: number;
    }): Promise<{
        occupants: {
            user: string;
            nick: string;
            voice: string;
            connections: number;
        }[];
        more: boolean;
    }>;
    /** @param {{ unread?: boolean, after?: string, limit?: number }} [which] @returns {Promise<{ conversations: Conversation[], cursor: string, more: boolean }>} */
    conversations({ unread, ...which }?: {
        unread?: boolean;
        after?: string;
        limit?: number;
    }): Promise<{
        conversations: Conversation[];
        cursor: string;
        more: boolean;
    }>;
    /** Sets the read mark, which only rises. @param {string} conversation @param {string} cursor @returns {Promise<{ read: string, unread: number, mentions: number }>} */
    read(conversation: string, cursor: string): Promise<{
        read: string;
        unread: number;
        mentions: number;
    }>;
    /** @param {string} conversation @param {{ muted?: boolean, pinned?: boolean, archived?: boolean, notify?: string }} settings @returns {Promise<Conversation>} */
    settings(conversation: string, settings: {
        muted?: boolean;
        pinned?: boolean;
        archived?: boolean;
        notify?: string;
    }): Promise<Conversation>;
    /** Whom this user takes nothing from. @returns {Promise<{ blocked: string[] }>} */
    blocked(): Promise<{
        blocked: string[];
    }>;
    /** @param {string} user @param {boolean} [isOn] */
    block(user: string, isOn?: boolean): Promise<any>;
    /** @param {string} id @param {string} body @returns {Promise<Published>} */
    edit(id: string, body: string): Promise<Published>;
    /** @param {string} id @returns {Promise<Published>} */
    recall(id: string): Promise<Published>;
    /** @param {string} id @param {string} key @param {boolean} [isOn] @returns {Promise<Published>} */
    react(id: string, key: string, isOn?: boolean): Promise<Published>;
    /** @param {string} conversation @returns {Promise<Conversation>} */
    conversation(conversation: string): Promise<Conversation>;
    /** Tells the other user that their messages have come to a device. @param {string} conversation @param {string} cursor @returns {Promise<unknown>} */
    received(conversation: string, cursor: string): Promise<unknown>;
    /**
     * Follows everything of the caller's: the inbox and all rooms, also those joined later. The client's events `signal` and
     * `conversation` then tell what passes and what changes.
     * @template [T=unknown]
     * @param {(message: Message<T>) => unknown} [handle] @param {SubscribeOptions} [options]
     */
    follow<T = unknown>(handle?: (message: Message<T>) => unknown, options?: SubscribeOptions): import("./types.js").Subscription<T>;
    /** Tells whether somebody looks at this device; over WebSocket. @param {boolean} isActive */
    active(isActive: boolean): void;
    /** Tells that this user types, not more often than the server lets it through. @param {string} conversation */
    typing(conversation: string): void;
    #private;
}
export type Room = {
    room: string;
    topic: string;
    title: string;
    about?: string | undefined;
    subject?: string | undefined;
    /**
     * `open`, `members` or `password`.
     */
    join: string;
    /**
     * With `admins` all others see aliases in place of users.
     */
    see?: "all" | "admins" | undefined;
    /**
     * The caller's alias there: own messages come under it.
     */
    as?: string | undefined;
    owners?: string[] | undefined;
    members?: number | undefined;
    /**
     * The caller's; absent if there is none.
     */
    role?: string | undefined;
    nick?: string | undefined;
    may?: {
        read: boolean;
        talk: boolean;
        join: boolean;
        invite: boolean;
        moderate: boolean;
    } | undefined;
};
export type Member = {
    /**
     * An alias, where the room hides its users from the caller.
     */
    user: string;
    /**
     * The alias, where the room hides its users and `user` is none.
     */
    as?: string | undefined;
    /**
     * `owner`, `admin`, `member`, `invited` or `banned`.
     */
    role: string;
    nick?: string | undefined;
    since?: string | undefined;
    /**
     * Absent if it isn't for the caller to know.
     */
    presence?: "left" | "here" | "away" | undefined;
    /**
     * The time since when it is so.
     */
    seen?: string | undefined;
    /**
     * The wires over which the user is connected.
     */
    wires?: string[] | undefined;
    /**
     * The position up to which the member has read.
     */
    read?: string | undefined;
};
/**
 * The caller's side of a room or of an exchange with another user.
 */
export type Conversation = {
    /**
     * `room/R` or `user/P`.
     */
    conversation: string;
    title: string;
    /**
     * The caller's alias, in a room that hides its users.
     */
    as?: string | undefined;
    /**
     * Up to 1,000; `exact` is false beyond.
     */
    unread: number;
    exact: boolean;
    mentions: number;
    /**
     * The mark.
     */
    read?: string | undefined;
    last?: Message<any> | undefined;
    muted: boolean;
    pinned: boolean;
    archived: boolean;
    notify: string;
    /**
     * Of the other user.
     */
    presence?: "left" | "here" | "away" | undefined;
    seen?: string | undefined;
    wires?: string[] | undefined;
    /**
     * The position up to which the other user has read.
     */
    theirs?: string | undefined;
};
import type { Published } from './types.js';
import type { Message } from './types.js';
import type { SubscribeOptions } from './types.js';
import type { Everywire } from './client.js';
