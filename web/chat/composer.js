/** The composer: a draft for each room, answers, edits. */

import { reasonOf, t } from '../shared.js';
import { batch, html, signal, useEffect, useRef } from '../vendor/ui.js';
import { block, blocked, can, me, nickOf, rooms } from './model.js';
import { brief, quote } from './words.js';

/** The purpose of the composer, if it is not a new line. */
export const purpose = signal(/** @type {{ what: 'reply' | 'edit', line: import('./talk.js').Line } | null} */ (null));
const refusal = signal('');

/**
 * Begins to answer a line, or to edit it: then its text stands in the composer at once, so that no key is lost.
 * @param {import('./talk.js').Talk} talk @param {'reply' | 'edit'} what @param {import('./talk.js').Line} line
 */
export function begin(talk, what, line) {
  batch(() => {
    purpose.value = { what, line };
    if (what === 'edit') talk.keepDraft(line.text);
  });
}

/** Whether a key belongs to an input method: Safari says 229 for it. @param {KeyboardEvent} event */
const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** @param {import('./talk.js').Talk} talk @param {string} text */
async function send(talk, text) {
  const { what, line } = purpose.value ?? {};
  refusal.value = '';
  if (what !== 'edit' || !line) {
    talk.say(line ? quote(nickOf(talk, line.from), line.text) + text : text, line?.id);
  } else {
    try {
      await rooms.edit(line.id, text);
    } catch (error) {
      refusal.value = reasonOf(error);
      return false;
    }
  }
  purpose.value = null;
  return true;
}

/** The last line that one may still change. @param {import('./talk.js').Talk} talk */
const lastOwn = (talk) => talk.lines.value.findLast(({ from, isRecalled, kind }) => from === me.value && !isRecalled && kind === 'chat');

/** @param {{ talk: import('./talk.js').Talk }} props */
export function Composer({ talk }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const { what, line } = purpose.value ?? {};
  useEffect(() => {
    if (what) field.current?.focus();
  }, [what, line?.id]);
  useEffect(() => { purpose.value = null; refusal.value = ''; }, [talk]);
  useEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = 'auto';
    area.style.height = `${Math.min(area.scrollHeight + 2, 160)}px`;
  }, [talk.draft.value, talk]);
  if (talk.ended.value) {
    return html`
      <p class="ended status bad" role="status">${t('chat.ended', { reason: talk.ended.value })}</p>
      ${talk.draft.value && html`<form class="composer"><label for="composer">${t('chat.kept.draft')}</label><div class="row"><textarea id="composer" dir="auto" readonly value=${talk.draft.value}></textarea></div></form>`}`;
  }
  if (talk.kind === 'user' && blocked.value.has(talk.name)) {
    return html`<p class="ended hint">${t('chat.youBlocked', { who: talk.title })} <button type="button" onClick=${() => block(talk.name, false).catch(() => {})}>${t('chat.unblock')}</button></p>`;
  }
  if (talk.room.value.may?.talk === false) return html`<p class="ended hint">${t('chat.mayNot')}</p>`;

  const submit = async (/** @type {Event | undefined} */ event) => {
    event?.preventDefault();
    const text = talk.draft.value.trim();
    if (!text) return;
    talk.keepDraft('');
    if (!await send(talk, text)) talk.keepDraft(text);
    field.current?.focus();
  };
  const stop = () => {
    if (what === 'edit') talk.keepDraft('');
    purpose.value = null;
    refusal.value = '';
  };
  const press = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === 'Enter' && !event.shiftKey) submit(event);
    else if (event.key === 'Escape' && what) stop();
    else if (event.key === 'ArrowUp' && talk.draft.value === '' && can.value.change) {
      const own = lastOwn(talk);
      if (own) begin(talk, 'edit', own);
      event.preventDefault();
    }
  };
  return html`
    <form class="composer" onSubmit=${submit}>
      ${what && line && html`<p class="purpose hint"><span dir="auto">${t(`chat.${what}.what`, { who: nickOf(talk, line.from), text: brief(line.text) })}</span> <button type="button" onClick=${stop}>${t('chat.stop')}</button></p>`}
      <div class="row">
        <label class="unseen" for="composer">${t('chat.write', { title: talk.title })}</label>
        <textarea id="composer" ref=${field} rows="1" dir="auto" placeholder=${t('chat.write', { title: talk.title })} value=${talk.draft.value}
          onInput=${(/** @type {any} */ event) => { talk.keepDraft(event.target.value); if (event.target.value && can.value.signals) rooms.typing(talk.conversation); }} onKeyDown=${press}></textarea>
        <button class="primary">${t(what === 'edit' ? 'chat.change' : 'chat.send')}</button>
      </div>
      ${refusal.value && html`<p class="status bad" role="alert">${refusal.value}</p>`}
    </form>`;
}
