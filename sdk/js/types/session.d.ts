export class Session {
    /** The session that `hello` asks for; undefined when the token is renewed. @type {string | undefined} */
    wish: string | undefined;
    /**
     * Adds the session to the frames of a socket.
     * @param {Link} link @param {Record<string, (frame: any) => unknown>} frame @param {(frame: object) => unknown} send
     */
    extend(link: Link, frame: Record<string, (frame: any) => unknown>, send: (frame: object) => unknown): void;
    #private;
}
import type { Link } from './link.js';
