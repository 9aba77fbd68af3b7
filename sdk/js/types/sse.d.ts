/**
 * `text/event-stream` (HTML Living Standard, 9.2.6), piece by piece.
 *
 * @typedef {object} StreamEvent
 * @property {string | null} id
 * @property {string} event
 * @property {string | null} data  `null` where only the id moves.
 */
export class EventStreamParser {
    /**
     * Takes the next piece of text; gives the events that it completes.
     * @param {string} text
     */
    push(text: string): StreamEvent[];
    #private;
}
/**
 * `text/event-stream` (HTML Living Standard, 9.2.6), piece by piece.
 */
export type StreamEvent = {
    id: string | null;
    event: string;
    /**
     * `null` where only the id moves.
     */
    data: string | null;
};
